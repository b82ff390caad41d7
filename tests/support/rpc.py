"""A client of the gRPC front, as one that was made of the checked-in proto, and the front over a world's services."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_status import rpc_status

from api.access import Gate, gate
from api.rpc.server import RpcServer
from api.rpc.translate import SERVICE
from tests.support.world import World

WAIT_LIMIT_SECONDS = 600.0
CALL_SECONDS = 60.0


class RpcClient:
    """Calls with a key. Requests are dicts, as JSON has messages; so are answers, with each field as the proto names
    it."""

    def __init__(self, channel: grpc.Channel, key: str | None = "k") -> None:
        self.channel = channel
        self._key = key

    def call(self, name: str, request: Mapping[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        method = SERVICE.methods_by_name[name]
        message = json_format.ParseDict(dict(request or {}), GetMessageClass(method.input_type)())
        return _shown(self.send(name, message.SerializeToString(), **options))

    def send(self, name: str, raw: bytes, *, timeout: float = CALL_SECONDS, **options: Any) -> Any:
        """These very bytes; the answer as a message, or as all of a stream's."""
        method = SERVICE.methods_by_name[name]
        make = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        decode = GetMessageClass(method.output_type).FromString
        called = make(f"/{SERVICE.full_name}/{name}", response_deserializer=decode)
        answer = called(raw, timeout=timeout, metadata=self.metadata(), **options)
        return list(answer) if method.server_streaming else answer

    def begun(self, name: str, request: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
        """A call that the server has begun to handle; what is given waits for its answer.

        What comes by one connection is begun in its order: another call that was answered was begun after this one."""
        method = SERVICE.methods_by_name[name]
        decode = GetMessageClass(method.output_type).FromString
        called = self.channel.unary_unary(f"/{SERVICE.full_name}/{name}", response_deserializer=decode)
        message = json_format.ParseDict(dict(request), GetMessageClass(method.input_type)())
        self.health()  # the connection is there
        under_way = called.future(message.SerializeToString(), timeout=CALL_SECONDS, metadata=self.metadata())
        self.health()
        return lambda: dict(_shown(under_way.result()))

    def stream(self, name: str, request: Mapping[str, Any]) -> Any:
        """A call whose answers come one by one."""
        method = SERVICE.methods_by_name[name]
        decode = GetMessageClass(method.output_type).FromString
        called = self.channel.unary_stream(f"/{SERVICE.full_name}/{name}", response_deserializer=decode)
        message = json_format.ParseDict(dict(request), GetMessageClass(method.input_type)())
        return called(message.SerializeToString(), metadata=self.metadata())

    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._key}"),) if self._key is not None else ()

    def health(self, service: str = "") -> str:
        """SERVING, or not."""
        called = self.channel.unary_unary(
            "/grpc.health.v1.Health/Check", response_deserializer=health_pb2.HealthCheckResponse.FromString
        )
        asked = health_pb2.HealthCheckRequest(service=service).SerializeToString()
        return health_pb2.HealthCheckResponse.ServingStatus.Name(called(asked, timeout=CALL_SECONDS).status)


class RpcFront:
    """The front over a world's services, in this process."""

    def __init__(self, world: World, requests_per_minute: int = 0) -> None:
        self.gate: Gate = gate(world.services, [b"k"], requests_per_minute)
        place = {"host": "127.0.0.1", "port": 0}
        self.server = RpcServer(
            world.services, self.gate, tenant="default", wait_limit_seconds=WAIT_LIMIT_SECONDS, **place
        )
        self.server.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.server.port}", (("grpc.enable_http_proxy", 0),))

    def client(self, key: str | None = "k") -> RpcClient:
        return RpcClient(self.channel, key)

    def stop(self) -> None:
        self.channel.close()
        assert self.server.stop(0).wait(30)


@contextmanager
def serving_rpc(world: World, requests_per_minute: int = 0) -> Iterator[RpcFront]:
    """The front, stopped at the end."""
    front = RpcFront(world, requests_per_minute)
    try:
        yield front
    finally:
        front.stop()


@contextmanager
def refused(code: grpc.StatusCode) -> Iterator[dict[str, Any]]:
    """That a call is refused with this code; what it says is in what is given: `words`, `reason`, `fields`, `retry`."""
    said: dict[str, Any] = {}
    with pytest.raises(grpc.RpcError) as raised:
        yield said
    assert raised.value.code() is code, (raised.value.code(), raised.value.details())
    said.update(_said(raised.value))


def _said(error: grpc.RpcError) -> dict[str, Any]:
    said: dict[str, Any] = {"words": error.details(), "reason": None, "fields": {}, "retry": None}
    status = rpc_status.from_call(error)
    for packed in status.details if status is not None else ():
        for kind in (error_details_pb2.BadRequest, error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo):
            if packed.Unpack(detail := kind()):
                if isinstance(detail, error_details_pb2.BadRequest):
                    said["fields"] = {each.field: each.description for each in detail.field_violations}
                elif isinstance(detail, error_details_pb2.ErrorInfo):
                    said["reason"] = detail.reason
                else:
                    said["retry"] = detail.retry_delay.seconds
    return said


def _shown(answer: Any) -> Any:
    if isinstance(answer, list):
        return [_shown(each) for each in answer]
    return json_format.MessageToDict(answer, preserving_proto_field_name=True)
