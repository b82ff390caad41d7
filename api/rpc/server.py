"""The server of gRPC: who is let in, how long anything may take, health and reflection. Knows no rpc's meaning.

Every rpc is taken as a stream of requests, of which the first is the request: so its metadata are looked at before its
message is waited for, and the wait has a bound. Closed by default: health and reflection alone ask for no key.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as LookTimeout
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_status import rpc_status
from loguru import logger

from api import access
from api.rpc import statuses
from api.rpc.calling import Call, call_of
from api.rpc.calls import Rpc, table
from api.rpc.translate import SERVICE, as_message, given, parsed
from api.waiting import Shared
from headrace import metrics
from headrace.bootstrap import Services
from headrace.domain.inputs import MOST_BYTES
from headrace.errors import ConfigurationError, HeadraceError, InvalidRequest, NotFound, TooMany

WORKERS = 64
RPCS_AT_ONCE = 256
"""More are answered RESOURCE_EXHAUSTED at once."""

OPEN_AT_ONCE = 16
"""Of the rpcs that ask for no key."""

MESSAGE_SECONDS = 10.0
"""How long a client may take to send its request, and how long a reflection may last."""

READER_SECONDS = 30.0
"""How long a client may leave a piece of a log unread."""

HEALTH = "grpc.health.v1.Health"
LOOK_SECONDS = 10.0

OPTIONS: Mapping[str, int] = {
    "grpc.so_reuseport": 0,  # a port that is taken is an error
    "grpc.max_receive_message_length": MOST_BYTES,
    "grpc.max_concurrent_streams": RPCS_AT_ONCE,
    "grpc.max_allowed_incoming_connections": 512,
    "grpc.server_handshake_timeout_ms": 10_000,
    "grpc.keepalive_time_ms": 60_000,
    "grpc.keepalive_timeout_ms": 20_000,
    "grpc.max_connection_idle_ms": 300_000,
    "grpc.max_connection_age_ms": 3_600_000,
    "grpc.max_connection_age_grace_ms": 900_000,
}

Serving = health_pb2.HealthCheckResponse.ServingStatus


class RpcServer:
    """The services over gRPC, for one tenant."""

    def __init__(
        self, services: Services, gate: access.Gate, *, tenant: str, wait_limit_seconds: float, host: str, port: int
    ) -> None:
        """Nothing listens before `start`. Port 0: any that is free."""
        self.port = port
        self._host = host
        self._gate = gate
        self._readiness = Shared(services.store.ping, "grpc-health")
        self._open = threading.BoundedSemaphore(OPEN_AT_ONCE)
        self._reflection = reflection.ReflectionServicer([SERVICE.full_name, HEALTH, reflection.SERVICE_NAME])
        self._server = grpc.server(
            ThreadPoolExecutor(WORKERS, "grpc"),
            handlers=self._handlers(table(services, tenant, wait_limit_seconds)),
            options=list(OPTIONS.items()),
            maximum_concurrent_rpcs=RPCS_AT_ONCE,
        )

    def start(self) -> None:
        """Listens, and answers from now on. Raises ConfigurationError where the port cannot be had."""
        try:
            _check_is_free(self._host, self.port)
            bracketed = f"[{self._host}]" if ":" in self._host else self._host
            self.port = self._server.add_insecure_port(f"{bracketed}:{self.port}")
        except (OSError, RuntimeError) as error:
            words = f"HEADRACE_GRPC_PORT: cannot listen on {self._host}:{self.port}"
            raise ConfigurationError(f"{words}: {getattr(error, 'strerror', None) or error}") from error
        self._server.start()

    def stop(self, seconds: float) -> threading.Event:
        """Takes no more calls; what is under way has so long. Set once all is over."""
        event: threading.Event = self._server.stop(seconds)
        return event

    def _handlers(self, rpcs: Mapping[str, Rpc]) -> list[grpc.GenericRpcHandler]:
        named = {method.name: self._handler(method, rpcs[method.name]) for method in SERVICE.methods}
        check = grpc.stream_unary_rpc_method_handler(self._health, None, _serialized)
        reflected = grpc.stream_stream_rpc_method_handler(
            self._reflected, reflection_pb2.ServerReflectionRequest.FromString, _serialized
        )
        return [
            grpc.method_handlers_generic_handler(SERVICE.full_name, named),
            grpc.method_handlers_generic_handler(HEALTH, {"Check": check}),
            grpc.method_handlers_generic_handler(reflection.SERVICE_NAME, {"ServerReflectionInfo": reflected}),
        ]

    def _handler(self, method: MethodDescriptor, rpc: Rpc) -> grpc.RpcMethodHandler:
        if method.server_streaming:
            return grpc.stream_stream_rpc_method_handler(partial(self._streamed, method, rpc), None, _serialized)
        return grpc.stream_unary_rpc_method_handler(partial(self._answered, method, rpc), None, _serialized)

    def _answered(
        self, method: MethodDescriptor, rpc: Rpc, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Message:
        with _told(method.name, context, writes=rpc.writes) as told:
            return as_message(rpc.answer(self._call(method, rpc, requests, context, told)), method.output_type)

    def _streamed(
        self, method: MethodDescriptor, rpc: Rpc, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[Message]:
        with _told(method.name, context, writes=rpc.writes) as told:
            for view in rpc.answer(self._call(method, rpc, requests, context, told)):
                with _cut_after(READER_SECONDS, context):
                    yield as_message(view, method.output_type)

    def _call(
        self,
        method: MethodDescriptor,
        rpc: Rpc,
        requests: Iterator[bytes],
        context: grpc.ServicerContext,
        told: _Told,
    ) -> Call:
        """Lets the caller in before the request is read."""
        caller = self._gate.callers.of(access.given_by(dict(context.invocation_metadata())))
        told.caller = caller.name
        access.check_role(caller, rpc.role)
        self._gate.rate_limit.check(caller)
        return call_of(given(parsed(_first(requests, context), method.input_type)), caller, context)

    def _health(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Message:
        """SERVING while the store answers. Who asks is told no more: which server does not answer is in the log."""
        with _told("Check", context), self._place():
            asked = parsed(_first(requests, context), health_pb2.HealthCheckRequest.DESCRIPTOR)
            if asked.service not in ("", SERVICE.full_name):
                raise NotFound(f"there is no service of this name; {SERVICE.full_name} is one")
            return health_pb2.HealthCheckResponse(status=Serving.SERVING if self._is_ready() else Serving.NOT_SERVING)

    def _is_ready(self) -> bool:
        try:
            self._readiness.looked().result(LOOK_SECONDS)
        except (HeadraceError, LookTimeout) as error:
            logger.warning("not ready: {}", error)
            return False
        return True

    def _reflected(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Message]:
        with _told("ServerReflectionInfo", context), self._place(), _cut_after(MESSAGE_SECONDS, context):
            yield from self._reflection.ServerReflectionInfo(requests, context)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the places of those who bring no key."""
        if not self._open.acquire(blocking=False):
            raise TooMany(f"{OPEN_AT_ONCE} calls without a key are open; try again")
        try:
            yield
        finally:
            self._open.release()


@dataclass
class _Told:
    """Whose call it is, once that is known."""

    caller: str = ""


@contextmanager
def _told(name: str, context: grpc.ServicerContext, *, writes: bool = False) -> Iterator[_Told]:
    """Tells how a call ended: its client, the metrics, and, where it asks for more than to read, the log."""
    told, code = _Told(), grpc.StatusCode.CANCELLED
    try:
        yield told
        code = grpc.StatusCode.OK
    except grpc.RpcError:
        raise  # its client has gone, or took too long
    except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for an answer
        status = statuses.of(error, f"the rpc {name}")
        code = statuses.CODES[status.code]
        context.abort_with_status(rpc_status.to_status(status))
    finally:
        metrics.RPCS.labels(name, code.name).inc()
        if writes and told.caller:
            logger.info("rpc {} by {}: {}", name, told.caller, code.name)


@contextmanager
def _cut_after(seconds: float, context: grpc.ServicerContext) -> Iterator[None]:
    """Ends the call where this takes longer than that."""
    timer = threading.Timer(seconds, context.cancel)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _first(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    with _cut_after(MESSAGE_SECONDS, context):
        first = next(requests, None)
    if first is None:
        raise InvalidRequest({"message": "none was sent"})
    return first


def _serialized(message: Message) -> bytes:
    serialized: bytes = message.SerializeToString()
    return serialized


def _check_is_free(host: str, port: int) -> None:
    """Raises OSError where the port is taken. gRPC would say that in lines of its own."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tried.bind(address)
