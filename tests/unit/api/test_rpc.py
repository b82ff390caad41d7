"""The gRPC front over in-memory ports, on a real socket of this machine."""

from __future__ import annotations

import socket
import threading
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
import limits.storage.memory
import pytest
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from grpc import StatusCode as Code
from grpc_reflection.v1alpha import reflection_pb2
from loguru import logger

from api import access
from api.rpc import calling, headrace_pb2, server
from api.rpc.calls import FOLLOWED_AT_ONCE, name_of, table
from api.rpc.server import OPEN_AT_ONCE, RpcServer
from api.rpc.statuses import CODE_OF, OURS
from api.rpc.translate import SERVICE
from headrace import errors, metrics
from headrace.domain.api_keys import Role
from headrace.domain.inputs import MOST_BYTES, MOST_VALUES
from headrace.domain.operations import KINDS, Kind
from headrace.domain.pods import MAIN_CONTAINER
from headrace.domain.runtime_reports import Process
from headrace.errors import ConfigurationError, Unavailable
from tests.support.clocks import held_clock
from tests.support.patience import REQUEST_SECONDS, wait_for
from tests.support.rpc import WAIT_LIMIT_SECONDS, RpcClient, RpcFront, refused, serving_rpc
from tests.support.world import SCRIPT, World
from tests.unit.services.test_crash_windows import CASES, again_and_again, mortal_world, operator_runs

SUBMIT = {"job_id": "a", "job_config": {"script": SCRIPT}}
MESSAGES = headrace_pb2.DESCRIPTOR.message_types_by_name


@pytest.fixture
def front(world: World, socket_enabled: None) -> Iterator[RpcFront]:
    with serving_rpc(world) as served:
        yield served


@pytest.fixture
def rpc(front: RpcFront) -> RpcClient:
    return front.client()


class Asked(World):
    """Writes down what a test asks of it, and asks nobody."""

    def accept(self, kind: Any, job_id: Any, **asked: Any) -> Any:
        self.asked = {"job_id": job_id, **{name: each for name, each in asked.items() if each is not None}}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_a_kind_is_accepted_and_is_the_operation_that_every_other_way_in_makes_of_it(
    kind: Kind, socket_enabled: None
) -> None:
    world, _ = mortal_world()
    before, last = CASES[kind.name]
    for request in before:
        request(world)
        again_and_again(world, operator_runs(world))
    last(asked := Asked(**vars(world)))
    with serving_rpc(world) as served:
        answer = served.client().call(name_of(kind), asked.asked)
    assert answer["operation"]["kind"] == kind.name
    assert answer["operation"]["source"] == {"via": "grpc", "by": "file-1"}
    count = len(world.store._operations)
    last(world)
    assert len(world.store._operations) == count, "the same key and request by another way in is the same operation"


def test_a_job_is_submitted_seen_and_stopped(rpc: RpcClient, world: World) -> None:
    rpc.call("ApplyTemplate", {"template": {"template_id": "counting", "type": "PYTHON_SCRIPT", "script": SCRIPT}})
    answer = rpc.call("Submit", {"template_id": "counting", "job_config": {"parallelism": 2}})
    job_id = answer["job_id"]
    assert (answer["status"], answer["operation"]["state"]) == ("REQUESTED", "ACCEPTED")
    world.execute(job_id)
    assert world.whole(job_id)["spec"]["job"]["parallelism"] == 2
    world.becomes(job_id)
    world.settle()
    job = rpc.call("GetJob", {"job_id": job_id})
    assert (job["status"], job["parallelism"], job["template_version"]) == ("RUNNING", "2", "1")
    assert job["phase_since"] == "2026-01-01T00:00:00Z"
    assert [each["to"] for each in rpc.call("ListTransitions", {"job_id": job_id})["transitions"]] == ["RUNNING"]
    rpc.call("Stop", {"job_id": job_id})
    operations = rpc.call("ListOperations", {"job_id": job_id})["operations"]
    assert [each["kind"] for each in operations] == ["SUBMIT", "STOP"]
    (version,) = rpc.call("ListVersions", {"job_id": job_id})["versions"]
    assert rpc.call("GetVersion", {"job_id": job_id, "version": 1})["request"]["parallelism"] == 2
    assert (version["version"], version["source"]["via"]) == ("1", "grpc")
    assert rpc.call("GetTemplate", {"template_id": "counting"})["body"]["script"]["content"] == SCRIPT["content"]


def test_a_dry_run_says_what_would_be_and_does_nothing(rpc: RpcClient, world: World) -> None:
    world.runs()
    count = len(world.store._operations)
    answer = rpc.call("Scale", {"job_id": "orders", "parallelism": 3, "dry_run": True})
    assert answer["foresight"]["changes"][0]["after"] == 3
    assert "operation" not in answer
    assert len(world.store._operations) == count


def test_a_request_with_a_field_that_we_do_not_know_does_nothing(rpc: RpcClient, world: World) -> None:
    """As the dry_run that a later release may give a STOP."""
    world.runs()
    unknown = json_format.ParseDict(
        {"job_id": "orders", "dry_run": True}, message_of("ScaleRequest")
    ).SerializeToString()
    count = len(world.store._operations)
    with refused(Code.INVALID_ARGUMENT) as said:
        rpc.send("Stop", unknown)
    assert "does not know" in said["fields"]["message"]
    assert len(world.store._operations) == count


def test_pages_go_on_where_the_one_before_ended(rpc: RpcClient, world: World) -> None:
    for name in ("a", "b", "c"):
        world.submit(name)
    first = rpc.call("ListJobs", {"limit": 2})
    rest = rpc.call("ListJobs", {"limit": 2, "cursor": first["next_cursor"]})
    assert [job["job_id"] for job in first["jobs"] + rest["jobs"]] == ["a", "b", "c"]
    assert "next_cursor" not in rest
    assert "request" not in rpc.call("ListJobs", {"brief": True})["jobs"][0]
    assert rpc.call("ListJobs", {"phase": "RUNNING"}) == {}
    assert len(rpc.call("ListJobs", {"phase": "REQUESTED"})["jobs"]) == 3
    assert rpc.call("ListSavepoints") == {}


def test_a_runtime_of_which_nobody_has_reported_neither_works_nor_does_not(rpc: RpcClient, world: World) -> None:
    unsaid = {"name": "operator", "is_default": True, "silent": ["worker", "sync"]}
    assert rpc.call("ListRuntimes") == {"runtimes": [unsaid]}
    world.runtime.lacking = {Process.WORKER: ["the right to patch"]}
    world.services.report_runtimes.of(set(Process))
    (found,) = rpc.call("ListRuntimes")["runtimes"]
    assert found["works"] is False
    assert found["lacks"] == [{"what": "the right to patch", "said_by": ["worker"]}]
    assert found["reported_at"]


# keys


READS = frozenset(
    {
        *("GetJob", "GetOperation", "GetTemplate", "GetVersion", "ListEvents", "ListExceptions", "ListJobs"),
        *("ListOperations", "ListSavepoints", "ListTemplates", "ListTransitions", "ListVersions", "ReadLog", "WhoAmI"),
        "ListRuntimes",
    }
)
"""What a viewer's key is for; what is not named here needs an operator's."""


def test_three_roles_and_every_rpc(front: RpcFront, world: World) -> None:
    keys: dict[Role | None, str | None] = {None: None}
    for role in Role:
        body = {"name": f"a-{role}", "role": role, "expires_in_days": 1}
        _, keys[role] = world.services.api_keys.create(body, by="test")
    names = set(SERVICE.methods_by_name)
    assert READS < names == set(table(world.services, "default", 1))
    for name in sorted(names):
        needed = Role.VIEWER if name in READS else Role.OPERATOR
        for role, key in keys.items():
            client, asked = front.client(key), f"{name} with {role}"
            code = code_of(client, name)
            if role is not None and role.may(needed):
                assert code not in (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED), asked
            else:
                assert code is (Code.UNAUTHENTICATED if role is None else Code.PERMISSION_DENIED), asked


def code_of(client: RpcClient, name: str) -> Code:
    try:
        client.send(name, b"")
    except grpc.RpcError as error:
        code: Code = error.code()
        return code
    return Code.OK


def test_a_key_may_come_in_either_of_two_ways_and_its_role_is_named(front: RpcFront, world: World) -> None:
    _, key = world.services.api_keys.create({"name": "eye", "role": "viewer", "expires_in_days": None}, by="test")
    client = front.client(key)
    assert client.call("WhoAmI") == {"name": "eye", "role": "viewer"}
    client.metadata = lambda: (("x-api-key", key),)  # type: ignore[method-assign]
    assert client.call("WhoAmI") == {"name": "eye", "role": "viewer"}
    with refused(Code.PERMISSION_DENIED) as said:
        client.call("Stop", {"job_id": "a"})
    assert "has the role viewer, and this needs operator" in said["words"]
    world.services.api_keys.revoke("eye")
    world.clock.advance(11)
    with refused(Code.UNAUTHENTICATED) as said:
        client.call("WhoAmI")
    assert (said["reason"], "was revoked at" in said["words"]) == ("UNAUTHORIZED", True)


def test_who_brings_no_key_is_refused_before_a_message_is_awaited(front: RpcFront) -> None:
    called = front.channel.stream_unary(f"/{SERVICE.full_name}/Submit")
    release = threading.Event()

    def never() -> Iterator[bytes]:
        release.wait(60)
        yield b""

    try:
        with refused(Code.UNAUTHENTICATED):
            called(never(), timeout=30)
    finally:
        release.set()


def test_a_key_sends_so_many_calls_a_minute(
    world: World, socket_enabled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_clock(monkeypatch, access, limits.storage.memory)  # it may be the end of a minute here
    with serving_rpc(world, requests_per_minute=2) as served:
        client = served.client()
        assert [code_of(client, "WhoAmI") for _ in range(2)] == [Code.OK, Code.OK]
        with refused(Code.RESOURCE_EXHAUSTED) as said:
            client.call("WhoAmI")
    assert "HEADRACE_API_REQUESTS_PER_MINUTE" in said["words"]
    assert (said["reason"], said["retry"]) == ("TOO_MANY", 2)


def test_what_writes_is_logged_with_whose_key_it_was(rpc: RpcClient) -> None:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="INFO")
    rpc.call("Submit", SUBMIT)
    rpc.call("GetJob", {"job_id": "a"})
    wait_for("the line", lambda: lines)
    logger.remove(sink)
    assert ["rpc Submit by file-1: OK" in line for line in lines] == [True]


# refusals


@pytest.mark.parametrize(
    ("name", "request_", "field"),
    [
        ("Submit", {"job_config": {"script": SCRIPT, "parallelism": 0}}, "job_config.parallelism"),
        ("Submit", {"job_config": {"script": SCRIPT, "parallelism": 1.5}}, "job_config.parallelism"),
        ("Submit", {"job_config": {"script": 5}}, "job_config.script"),
        ("Submit", {"job_config": {"no_such_field": 1}}, "job_config.no_such_field"),
        ("Submit", {"template_id": "none"}, "template_id"),
        ("Submit", {"job_id": "not legal!"}, "job_id"),
        ("Submit", {**SUBMIT, "idempotency_key": ""}, "idempotency_key"),
        ("Submit", {**SUBMIT, "idempotency_key": "k" * 201}, "idempotency_key"),
        ("Submit", {**SUBMIT, "wait_seconds": -1}, "wait_seconds"),
        ("Submit", {**SUBMIT, "wait_seconds": "NaN"}, "wait_seconds"),
        ("Submit", {**SUBMIT, "start_from": "elsewhere"}, "start_from"),
        ("Scale", {"job_id": "orders", "parallelism": 2**40}, "parallelism"),
        ("Scale", {"job_id": "orders", "parallelism": 0}, "parallelism"),
        ("Rollback", {"job_id": "orders", "to": 0}, "to"),
        ("Stop", {}, "job_id"),
        ("Stop", {"job_id": ""}, "job_id"),
        ("Release", {"job_id": "x" * 101}, "job_id"),
        ("ApplyTemplate", {}, "template_id"),
        ("ApplyTemplate", {"template": {"template_id": "x", "script": SCRIPT, "imagee": "y"}}, "imagee"),
        ("GetJob", {}, "job_id"),
        ("GetOperation", {}, "operation_id"),
        ("GetVersion", {"job_id": "orders"}, "version"),
        ("GetTemplate", {"template_id": "x", "version": 0}, "version"),
        ("ListJobs", {"limit": 0}, "limit"),
        ("ListJobs", {"limit": 501}, "limit"),
        ("ListJobs", {"cursor": " "}, "cursor"),
        ("ListJobs", {"phase": "BUSY"}, "phase"),
        ("ListVersions", {"job_id": "orders", "limit": 101}, "limit"),
        ("ListSavepoints", {"cursor": "bm93"}, "cursor"),
        ("DisposeSavepoint", {}, "path"),
        ("ReadLog", {"job_id": "orders", "tail": -1}, "tail"),
        ("ReadLog", {"job_id": "orders", "component": "pod"}, "component"),
    ],
)
def test_what_cannot_be_used_names_its_field(
    rpc: RpcClient, world: World, name: str, request_: Any, field: str
) -> None:
    world.runs()
    count = len(world.store._operations)
    with refused(Code.INVALID_ARGUMENT) as said:
        rpc.call(name, request_)
    assert field in said["fields"]
    assert said["reason"] == "INVALID_REQUEST"
    assert said["words"].startswith(f"{field}: ") or f"; {field}: " in said["words"]
    assert len(world.store._operations) == count


def message_of(name: str) -> Any:
    return GetMessageClass(MESSAGES[name])()


def nested(levels: int) -> bytes:
    """A request whose job_config has lists in lists, byte by byte: protobuf would make none so deep."""
    raw = Value(null_value=0).SerializeToString()
    for _ in range(levels):
        raw = field_of(6, field_of(1, raw))  # Value.list_value, ListValue.values
    return field_of(13, field_of(1, field_of(1, b"args") + field_of(2, raw)))  # SubmitRequest.job_config.fields


def field_of(number: int, raw: bytes) -> bytes:
    size, length = len(raw), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + raw


def with_config(value: Value) -> bytes:
    message = message_of("SubmitRequest")
    message.job_config.CopyFrom(Struct(fields={"args": value}))
    raw: bytes = message.SerializeToString()
    return raw


HOSTILE: Mapping[str, bytes] = {
    "bytes that are no message": b"\xff\xff\xff",
    "text that is no UTF-8": b"\x0a\x02\xff\xfe",
    "a value of no kind": with_config(Value()),
    "a number that is none": with_config(Value(number_value=float("nan"))),
    "an infinite one": with_config(Value(number_value=float("inf"))),
    "nested deeper than is read": nested(200),
    "nested deeper than anything that is meant": nested(40),
    "many values": with_config(Value(list_value=ListValue(values=[Value(null_value=0)] * (MOST_VALUES + 1)))),
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_message_is_refused_and_stores_nothing(rpc: RpcClient, world: World, raw: bytes) -> None:
    with refused(Code.INVALID_ARGUMENT):
        rpc.send("Submit", raw)
    assert not world.store._operations
    assert rpc.call("WhoAmI")["name"] == "file-1"


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip], ids=["plain", "gzip"])
def test_a_message_that_is_too_large_is_not_read(rpc: RpcClient, compression: Any) -> None:
    with refused(Code.RESOURCE_EXHAUSTED):
        rpc.send("Submit", with_config(Value(string_value="a" * (20 * MOST_BYTES))), compression=compression)
    assert rpc.call("WhoAmI")["name"] == "file-1"


def test_many_long_problems_are_an_answer_that_a_client_takes(rpc: RpcClient) -> None:
    with refused(Code.INVALID_ARGUMENT) as said:
        rpc.call("Submit", {"job_config": {"ä" * 190 + str(each): "…" * 1000 for each in range(200)}})
    assert said["fields"]


def test_whole_numbers_of_a_struct_are_whole_and_others_stay(rpc: RpcClient, world: World) -> None:
    cpu = {"task_manager": {"cpu": 0.5, "slots": 2.0}}
    rpc.call("Submit", {"job_id": "a", "job_config": {"script": SCRIPT, "parallelism": 2.0, "resources": cpu}})
    world.execute("a")
    request = world.job("a").request
    assert (request["parallelism"], type(request["parallelism"])) == (2, int)
    assert request["resources"]["task_manager"]["cpu"] == 0.5
    with refused(Code.INVALID_ARGUMENT):
        rpc.call("Submit", {"job_id": "b", "job_config": {"script": SCRIPT, "parallelism": float(2**60)}})


def test_an_idempotency_key_is_honoured(rpc: RpcClient) -> None:
    first = rpc.call("Submit", {**SUBMIT, "idempotency_key": "k1"})
    again = rpc.call("Submit", {**SUBMIT, "idempotency_key": "k1"})
    assert first["operation"]["id"] == again["operation"]["id"]
    with refused(Code.ALREADY_EXISTS) as said:
        rpc.call("Submit", {**SUBMIT, "job_id": "b", "idempotency_key": "k1"})
    assert said["reason"] == "IDEMPOTENCY_CONFLICT"


def test_what_is_not_there_and_what_cannot_be_have_codes_of_their_own(rpc: RpcClient, world: World) -> None:
    for name in ("GetJob", "Stop", "ListOperations", "ListTransitions", "ListVersions", "ListEvents", "ReadLog"):
        with refused(Code.NOT_FOUND) as said:
            rpc.call(name, {"job_id": "none"})
        assert said["words"].startswith("job none: there is none of this name"), name
    with refused(Code.NOT_FOUND):
        rpc.call("GetOperation", {"operation_id": "none"})
    world.runs()
    with refused(Code.FAILED_PRECONDITION) as said:
        rpc.call("Submit", {**SUBMIT, "job_id": "orders"})
    assert (said["reason"], "send STOP first" in said["words"]) == ("CONFLICT", True)


@pytest.mark.parametrize(("kind", "code", "reason"), CODE_OF, ids=[kind.__name__ for kind, _, _ in CODE_OF])
def test_each_class_of_error_has_its_code_and_says_what_http_says(
    rpc: RpcClient, world: World, monkeypatch: pytest.MonkeyPatch, kind: Any, code: Code, reason: str
) -> None:
    error = kind({"field": "is wrong"}) if kind is errors.InvalidRequest else kind("it is so; do that")

    def raised(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(world.store, "list_jobs", raised)
    with refused(code) as said:
        rpc.call("ListJobs")
    assert (said["reason"], said["words"]) == (reason, str(error))
    assert (said["retry"] is not None) == (code in (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED))


def test_what_nobody_foresaw_is_told_without_its_words(
    rpc: RpcClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raised(*_: object, **__: object) -> None:
        raise ZeroDivisionError("hunter2")

    before = metrics.UNFORESEEN.labels("grpc")._value.get()
    monkeypatch.setattr(world.store, "list_jobs", raised)
    with refused(Code.INTERNAL) as said:
        rpc.call("ListJobs")
    assert said["words"] == OURS
    assert metrics.UNFORESEEN.labels("grpc")._value.get() == before + 1


# time


def test_a_wait_says_the_end(rpc: RpcClient, world: World) -> None:
    world.runs()
    operation = world.scale(2)

    def ends() -> None:
        world.execute()
        world.becomes()
        world.settle()

    threading.Timer(0.5, ends).start()
    answer = rpc.call("GetOperation", {"operation_id": operation.id, "wait_seconds": 20})
    assert answer["operation"]["state"] == "SUCCEEDED"


def test_a_deadline_bounds_a_wait_and_the_answer_comes_before_it(
    rpc: RpcClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By so much that a machine which stands still for a while answers in time, too."""
    monkeypatch.setattr(calling, "ANSWER_SECONDS", REQUEST_SECONDS - 3)
    world.runs()
    asked = {"job_id": "orders", "parallelism": 2, "wait_seconds": WAIT_LIMIT_SECONDS}
    answer = rpc.call("Scale", asked, timeout=REQUEST_SECONDS)
    assert answer["operation"]["state"] == "ACCEPTED"


def test_a_wait_whose_client_has_left_holds_no_thread(
    front: RpcFront, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = world.submit()
    begun, ended, waits = threading.Event(), threading.Event(), calling.Waits.ended

    def watched(*arguments: Any) -> Any:
        begun.set()
        try:
            return waits(*arguments)
        finally:
            ended.set()

    monkeypatch.setattr(calling.Waits, "ended", watched)
    asked = {"operation_id": operation.id, "wait_seconds": WAIT_LIMIT_SECONDS}
    message = json_format.ParseDict(asked, message_of("GetOperationRequest")).SerializeToString()
    called = front.channel.unary_unary(f"/{SERVICE.full_name}/GetOperation")
    left = called.future(message, metadata=front.client().metadata())
    assert begun.wait(REQUEST_SECONDS)
    left.cancel()
    assert ended.wait(REQUEST_SECONDS), "long before the time that it asked for"


def test_beyond_a_bound_a_wait_is_answered_at_once(
    world: World, socket_enabled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calling, "WAITING_AT_ONCE", 0)
    operation = world.submit()
    with serving_rpc(world) as served:
        answer = served.client().call("GetOperation", {"operation_id": operation.id, "wait_seconds": 20}, timeout=15)
    assert answer["operation"]["state"] == "ACCEPTED"


def test_a_message_that_does_not_come_is_not_awaited_for_long(front: RpcFront, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MESSAGE_SECONDS", 0.5)
    called = front.channel.stream_unary(f"/{SERVICE.full_name}/Submit")
    release = threading.Event()

    def never() -> Iterator[bytes]:
        release.wait(60)
        yield b""

    try:
        with refused(Code.CANCELLED):
            called(never(), timeout=60, metadata=front.client().metadata())
    finally:
        release.set()


# logs


def prints(world: World, *lines: str) -> None:
    world.runs()
    world.shows_pod({"running": {}})
    for line in lines:
        world.runtime.print_line("orders-jm", MAIN_CONTAINER, line)


def test_a_log_is_a_head_and_its_pieces(rpc: RpcClient, world: World) -> None:
    prints(world, "one", "tw\u00f6", "three")
    head, *pieces = rpc.call("ReadLog", {"job_id": "orders", "tail": 2})
    assert (head["pod"], head["container"], "text" in head) == ("orders-jm", MAIN_CONTAINER, False)
    assert b"".join(b64decode(each["text"]) for each in pieces).decode() == "tw\u00f6\nthree\n"
    with refused(Code.INVALID_ARGUMENT):
        rpc.call("ReadLog", {"job_id": "orders", "previous": True, "follow": True})


def test_a_followed_log_goes_on_and_is_closed_when_its_reader_goes(
    rpc: RpcClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    prints(world, "one")
    followed = rpc.stream("ReadLog", {"job_id": "orders", "follow": True})
    assert next(followed).pod == "orders-jm"
    assert next(followed).text == b"one\n"
    world.runtime.print_line("orders-jm", MAIN_CONTAINER, "two")
    assert next(followed).text == b"two\n"
    assert world.runtime.open_logs
    followed.cancel()
    wait_for("the log to be closed", lambda: not world.runtime.open_logs)


def test_so_many_logs_are_followed_and_no_more(world: World, socket_enabled: None) -> None:
    prints(world, "one")
    with serving_rpc(world) as served:
        client = served.client()
        held = [client.stream("ReadLog", {"job_id": "orders", "follow": True}) for _ in range(FOLLOWED_AT_ONCE)]
        for each in held:
            next(each)
        with refused(Code.UNAVAILABLE) as said:
            client.call("ReadLog", {"job_id": "orders", "follow": True})
        assert "try later" in said["words"]
        held[0].cancel()
        wait_for("its place", lambda: is_followed(client))


def is_followed(client: RpcClient) -> bool:
    try:
        return bool(next(client.stream("ReadLog", {"job_id": "orders", "follow": True})).pod)
    except grpc.RpcError:
        return False


def test_a_jobs_events_and_exceptions_are_read(rpc: RpcClient, world: World) -> None:
    world.runs()
    assert "no events of the last hour" in rpc.call("ListEvents", {"job_id": "orders"})["note"]
    assert "no exception yet" in rpc.call("ListExceptions", {"job_id": "orders"})["note"]


# health and reflection


def test_health_follows_the_store_and_asks_for_no_key(
    front: RpcFront, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.waiting.KEPT_SECONDS", 0.0)
    client = front.client(None)
    assert [client.health(), client.health(SERVICE.full_name)] == ["SERVING", "SERVING"]

    def away() -> None:
        raise Unavailable("MongoDB at secret-host does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(front.server._readiness, "_look", away)
        wait_for("the store to be missed", lambda: client.health() == "NOT_SERVING")
    wait_for("the store to be there", lambda: client.health() == "SERVING")
    with refused(Code.NOT_FOUND):
        client.health("no.such.Service")


def test_reflection_lists_the_service_and_gives_its_proto_without_a_key(front: RpcFront) -> None:
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE.full_name),
    ]
    listed, file = reflecting(front)(iter(asked), timeout=60)
    names = {each.name for each in listed.list_services_response.service}
    assert names == {SERVICE.full_name, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert headrace_pb2.DESCRIPTOR.serialized_pb in file.file_descriptor_response.file_descriptor_proto


def reflecting(front: RpcFront) -> Any:
    return front.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )


@contextmanager
def without_a_key(front: RpcFront, monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[list[Any]]:
    """As many calls as may be open without a key, which say no more for as long as they are let."""
    monkeypatch.setattr(server, "MESSAGE_SECONDS", seconds)
    release = threading.Event()

    def idle() -> Iterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        release.wait(WAIT_LIMIT_SECONDS)

    try:
        yield [reflecting(front)(idle(), timeout=WAIT_LIMIT_SECONDS) for _ in range(OPEN_AT_ONCE)]
    finally:
        release.set()


def test_those_who_bring_no_key_hold_few_threads(front: RpcFront, monkeypatch: pytest.MonkeyPatch) -> None:
    with without_a_key(front, monkeypatch, WAIT_LIMIT_SECONDS) as held:
        for each in held:
            next(each)
        with refused(Code.RESOURCE_EXHAUSTED):
            front.client(None).health()
        assert front.client().call("WhoAmI")["name"] == "file-1", "who brings a key is not held up"


def test_those_who_bring_no_key_are_not_waited_for_long(front: RpcFront, monkeypatch: pytest.MonkeyPatch) -> None:
    with without_a_key(front, monkeypatch, 0.5) as held:
        for each in held:
            with refused(Code.CANCELLED):
                list(each)
        wait_for("their places to be free", lambda: code_of_health(front) is Code.OK)


def code_of_health(front: RpcFront) -> Code:
    try:
        front.client(None).health()
    except grpc.RpcError as error:
        code: Code = error.code()
        return code
    return Code.OK


def test_connections_that_say_nothing_are_cut_and_so_many_are_served(
    world: World, socket_enabled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"grpc.max_allowed_incoming_connections": 3, "grpc.server_handshake_timeout_ms": 3000}
    monkeypatch.setattr(server, "OPTIONS", {**server.OPTIONS, **few})
    with serving_rpc(world) as served, ExitStack() as stack:
        address = ("127.0.0.1", served.server.port)
        silent = [stack.enter_context(socket.create_connection(address, 30)) for _ in range(8)]
        for each in silent:
            while each.recv(1000):
                pass  # what gRPC says of itself, until it closes
        wait_for("room for others", lambda: code_of(served.client(), "WhoAmI") is Code.OK)


def test_a_port_that_is_taken_is_one_line(front: RpcFront, world: World, capfd: pytest.CaptureFixture[str]) -> None:
    second = RpcServer(
        world.services, front.gate, tenant="default", wait_limit_seconds=1, host="127.0.0.1", port=front.server.port
    )
    with pytest.raises(ConfigurationError) as raised:
        second.start()
    words = f"HEADRACE_GRPC_PORT: cannot listen on 127.0.0.1:{front.server.port}: Address already in use"
    assert str(raised.value) == words
    assert capfd.readouterr().err == ""
