"""The gRPC door of the stand-in: generic handlers over Google's own messages."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Self

import grpc
from google.cloud import run_v2
from google.longrunning import operations_pb2

from agent_manager.drivers.fake_cloud_run.answers import Refusal
from agent_manager.drivers.fake_cloud_run.cloud import Cloud
from agent_manager.drivers.fake_cloud_run.kinds import KINDS

Work = Callable[[Any], Awaitable[Any]]


@dataclass(slots=True)
class FakeCloudRun:
    """A server with a cloud behind it."""

    cloud: Cloud = field(default_factory=Cloud)
    target: str = ""
    """``host:port``, once started."""
    _server: grpc.aio.Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listens; returns where. Raises OSError where it cannot."""
        self._server = server = grpc.aio.server()
        server.add_generic_rpc_handlers(tuple(self._handlers()))
        try:
            bound = server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            msg = f"cannot listen on {host}:{port}: choose another --port"
            raise OSError(msg) from error
        await server.start()
        self.target = f"{host}:{bound}"
        return self.target

    async def stop(self) -> None:
        """Listens no more."""
        await self.cloud.close()
        if self._server is not None:
            await self._server.stop(None)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    def _handlers(self) -> Iterator[grpc.GenericRpcHandler]:
        cloud = self.cloud
        for kind in KINDS:
            verbs = {
                "Get": cloud.get,
                "List": cloud.listed,
                "Create": cloud.create,
                "Update": cloud.update,
                "Delete": cloud.delete,
            }
            methods = {}
            for verb, work in verbs.items():
                name = f"{verb}{kind.one}{'s' if verb == 'List' else ''}"
                methods[name] = self._unary(f"{kind.api}.{name}", partial(work, kind), kind.request(verb))
            yield grpc.method_handlers_generic_handler(f"google.cloud.run.v2.{kind.api}", methods)
        revisions = {
            "GetRevision": self._unary("Revisions.GetRevision", cloud.revision, run_v2.GetRevisionRequest.pb()),
            "ListRevisions": self._unary("Revisions.ListRevisions", cloud.listed_revisions, run_v2.ListRevisionsRequest.pb()),
        }
        yield grpc.method_handlers_generic_handler("google.cloud.run.v2.Revisions", revisions)
        operations = {
            "GetOperation": self._unary("Operations.GetOperation", cloud.operation, operations_pb2.GetOperationRequest),
            "DeleteOperation": self._unary("Operations.DeleteOperation", cloud.forgotten, operations_pb2.DeleteOperationRequest),
        }
        yield grpc.method_handlers_generic_handler("google.longrunning.Operations", operations)

    def _unary(self, method: str, work: Work, request_class: Any) -> "grpc.RpcMethodHandler[Any, Any]":
        async def answer(request: Any, context: Any) -> Any:
            trouble = self.cloud.took(method, request)
            try:
                if trouble is not None and not trouble.after_effect:
                    raise trouble.refusal()
                result = await work(request)
                if trouble is not None:
                    raise trouble.refusal()
            except Refusal as error:
                await context.abort(error.code, error.message, error.trailers())
            else:
                return result

        return grpc.unary_unary_rpc_method_handler(
            answer, request_deserializer=request_class.FromString, response_serializer=lambda message: message.SerializeToString()
        )
