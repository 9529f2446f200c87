"""Names of one agent's resource at Google, and the page with its logs. Pure."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from agent_manager.drivers.driver import LaunchError
from schemas.state import AgentRecord

Kind = Literal["service", "worker pool"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one agent is deployed."""

    project: str
    region: str
    kind: Kind
    short: str
    """The name that a person gave it."""

    @property
    def name(self) -> str:
        """``projects/<project>/locations/<region>/services|workerPools/<name>``."""
        collection = "services" if self.kind == "service" else "workerPools"
        return f"projects/{self.project}/locations/{self.region}/{collection}/{self.short}"

    @property
    def said(self) -> str:
        """In words, for a person who must find it."""
        return f"Cloud Run {self.kind} {self.short!r} in {self.region} of project {self.project!r}"

    @property
    def logs_url(self) -> str:
        """The page of the console with its logs."""
        if self.kind == "service":
            about = f'resource.type="cloud_run_revision"\nresource.labels.service_name="{self.short}"'
        else:
            about = f'resource.type="cloud_run_worker_pool"\nresource.labels.worker_pool_name="{self.short}"'
        query = quote(f'{about}\nresource.labels.location="{self.region}"', safe="")
        return f"https://console.cloud.google.com/logs/query;query={query}?project={quote(self.project, safe='')}"


def place_of(record: AgentRecord) -> Place:
    """Where the manifest says that it is deployed; raises LaunchError where it does not say."""
    said = record.cloud_run
    if said is None or (said.service is None) == (said.worker_pool is None):
        msg = "cloud_run names neither or both of service and worker_pool: name one in agent.yaml"
        raise LaunchError(msg)
    if said.service is not None:
        return Place(said.project, said.region, "service", said.service)
    assert said.worker_pool is not None
    return Place(said.project, said.region, "worker pool", said.worker_pool)
