"""Every agent as it stands now, as far as a caller may see it: a request costs NATS nothing."""

from difflib import get_close_matches

from agent_manager.api.callers import Caller
from agent_manager.api.problems import ProblemError, away, not_found
from agent_manager.cli.fleet.rows import Fleet, Found, Several, find
from agent_manager.following import FleetFollower


class FleetWatch(FleetFollower):
    """The fleet, and problems where it is not known or not the caller's."""

    def __init__(self) -> None:
        super().__init__("api")

    def known(self) -> Fleet:
        """The fleet; raises ProblemError (503) before it was read once."""
        if self.unread:
            raise away("agents are not known yet: ask again in a moment")
        return self.fleet()

    def key(self, caller: Caller, agent_id: str, tenant: str | None) -> str:
        """Which agent that is for this caller; raises ProblemError (404, 409), which names only what the caller may see."""
        keys = [key for key in self.known().agents() if caller.sees_agent(key)]
        match find(keys, agent_id, tenant):
            case Found(key):
                return key
            case Several(tenants):
                raise ProblemError(409, "several", f"agent {agent_id!r} exists in {', '.join(tenants)}: say which with ?tenant=")
            case unknown:
                near = get_close_matches(agent_id, unknown.known, n=1)
                raise not_found(f"there is no agent {agent_id!r}{f': did you mean {near[0]!r}?' if near else ''}")
