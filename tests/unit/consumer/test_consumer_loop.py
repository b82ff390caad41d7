"""The consumer's loop over records in memory: whose fault it is decides between a letter and a rest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import pytest

from consumer import loop as consumer_loop
from consumer.loop import Loop
from headrace.adapters.kafka import Record
from headrace.adapters.kafka.dead_letters import LONGEST_OUTLINE, LONGEST_REASON, letters_of
from headrace.domain.jobs import JobKey
from headrace.errors import CrdMissing, Refused, Unavailable
from tests.support.hostile import POISON
from tests.support.world import SCRIPT, World

CANARY = "canary-3e91"


def submit(job_id: str, **fields: Any) -> bytes:
    return json.dumps({"operation": "SUBMIT", "job_id": job_id, "job_config": {"script": SCRIPT}, **fields}).encode()


def record(value: bytes, offset: int = 0, partition: int = 0) -> Record:
    return Record("headrace.operations", "id", partition, offset, None, value, ())


class Partitions:
    """A consumer of records in memory. A partition that rests is passed over `rounds` times; nothing waits for time."""

    def __init__(self, *partitions: list[bytes]) -> None:
        self.partitions = partitions
        self.position = [0] * len(partitions)
        self.committed = [0] * len(partitions)
        self.rests: list[tuple[int, float]] = []
        self._resting: set[int] = set()

    def poll(self, _seconds: float) -> Record | None:
        for partition, values in enumerate(self.partitions):
            if partition not in self._resting and self.position[partition] < len(values):
                offset = self.position[partition]
                self.position[partition] += 1
                return record(values[offset], offset, partition)
        self._resting.clear()
        return None

    def ready(self) -> list[Record]:
        return [
            record(value, offset, partition)
            for partition, values in enumerate(self.partitions)
            if partition not in self._resting
            for offset, value in enumerate(values)
            if offset >= self.position[partition]
        ]

    def follow(self, topics: Collection[str]) -> None:
        self.followed = set(topics)

    def commit(self, done: Record) -> None:
        self.committed[done.partition] = done.offset + 1

    def rest(self, waiting: Record, seconds: float) -> None:
        self.position[waiting.partition] = waiting.offset
        self.rests.append((waiting.partition, seconds))
        self._resting.add(waiting.partition)

    @property
    def is_done(self) -> bool:
        return self.committed == [len(values) for values in self.partitions]


class Letters:
    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.triggers: list[Collection[str]] = []

    def put(self, _record: Record, reason: str, triggers: Collection[str] = ()) -> None:
        self.reasons.append(reason)
        self.triggers.append(triggers)


def consumed(world: World, *partitions: list[bytes], rounds: int = 200) -> tuple[Partitions, list[str]]:
    """What a loop made of these records, once each is committed or after so many polls."""
    consumer, letters = Partitions(*partitions), Letters()
    left = iter(range(rounds))
    loop = Loop(consumer, letters, world.services.handle_record, world.services.triggers)  # type: ignore[arg-type]
    loop.run(lambda: consumer.is_done or next(left, None) is None)
    return consumer, letters.reasons


def accepted(world: World, *names: str) -> list[bool]:
    return [world.store.job(JobKey("default", name)) is not None for name in names]


@pytest.mark.parametrize("poison", POISON)
def test_what_a_record_is_at_fault_for_is_a_letter_and_the_next_one_is_handled(world: World, poison: bytes) -> None:
    consumer, reasons = consumed(world, [submit("before"), poison, submit("after")])
    assert consumer.committed == [3]
    assert consumer.rests == []
    assert accepted(world, "before", "after") == [True, True]
    (reason,) = reasons
    assert 0 < len(reason.encode()) < 30_000


SERVERS: list[Exception] = [
    Unavailable("MongoDB did not answer"),
    Refused("MongoDB refused accepting an operation: Authentication failed."),
    CrdMissing(),
    KeyError("a stored record that cannot be read"),
]


@pytest.mark.parametrize("trouble", SERVERS)
def test_a_servers_trouble_is_waited_for_and_loses_no_record(
    world: World, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    stored, left = world.store.operation_by_key, iter(range(9))  # the first time for both records at once

    def away(tenant: str, key: str) -> Any:
        if next(left, None) is not None:
            raise trouble
        return stored(tenant, key)

    monkeypatch.setattr(world.store, "operation_by_key", away)
    consumer, reasons = consumed(world, [submit("a"), submit("b")])
    assert reasons == []
    assert accepted(world, "a", "b") == [True, True]
    assert [seconds for _, seconds in consumer.rests] == [1, 2, 4, 8, 16, 30, 30, 30]


def test_while_a_partition_waits_the_others_go_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = world.store.operation_by_key

    def away(tenant: str, key: str) -> Any:
        if key == "stuck":
            raise Unavailable("no")
        return stored(tenant, key)

    monkeypatch.setattr(world.store, "operation_by_key", away)
    consumer, _ = consumed(world, [submit("a", idempotency_key="stuck")], [submit("b"), submit("c")], rounds=20)
    assert consumer.committed == [0, 2]
    assert accepted(world, "a", "b", "c") == [False, True, True]


def test_what_our_own_code_did_not_foresee_is_that_records_letter(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headrace.services import resolve as room

    resolved = room.resolve  # type: ignore[attr-defined]

    def fails(template: Any, config: Any, values: Any) -> Any:
        if config.get("labels") == {"a": "canary"}:
            raise ZeroDivisionError("canary")
        return resolved(template, config, values)

    monkeypatch.setattr(room, "resolve", fails)
    bad = submit("bad", job_config={"script": SCRIPT, "labels": {"a": "canary"}})
    consumer, reasons = consumed(world, [bad, submit("after")])
    assert consumer.committed == [2]
    assert len(reasons) == 1
    assert "ZeroDivisionError" in reasons[0]
    assert "canary" not in reasons[0]
    assert accepted(world, "bad", "after") == [False, True]


def test_a_broker_that_is_away_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_loop, "POLL_SECONDS", 0.0)
    consumer, letters, left = Partitions([submit("a")]), Letters(), iter(range(5))
    polled = consumer.poll

    def poll(seconds: float) -> Record | None:
        if next(left, None) is not None:
            raise Unavailable("no broker")
        return polled(seconds)

    monkeypatch.setattr(consumer, "poll", poll)
    Loop(consumer, letters, world.services.handle_record, world.services.triggers).run(lambda: consumer.is_done)  # type: ignore[arg-type]
    assert accepted(world, "a") == [True]


def test_an_event_is_one_letter_with_the_names_of_those_that_refused_it(world: World) -> None:
    stop = {"operation": "STOP", "job_id": "${data.job}"}
    for name in ("a", "b"):
        world.services.triggers.apply({"name": name, "topic": "events", "action": stop})
    start = {"operation": "SUBMIT", "job_id": "made", "job_config": {"script": SCRIPT}}
    world.services.triggers.apply({"name": "c", "topic": "events", "action": start})
    consumer, letters = Partitions([b'{"job": "nobody"}']), Letters()
    polled = consumer.poll
    consumer.poll = lambda seconds: (found := polled(seconds)) and replace(found, topic="events")  # type: ignore[method-assign]
    Loop(consumer, letters, world.services.handle_record, world.services.triggers).run(lambda: consumer.is_done)  # type: ignore[arg-type]
    assert letters.triggers == [["a", "b"]]
    assert letters.reasons[0].startswith("trigger a: job nobody: there is none of this name")
    assert accepted(world, "made") == [True]
    assert consumer.followed == {"events"}


def test_where_the_triggers_cannot_be_read_the_other_records_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Any:
        raise Unavailable("MongoDB did not answer")

    monkeypatch.setattr(world.store, "triggers", away)
    consumer, reasons = consumed(world, [submit("a"), submit("b")])
    assert (accepted(world, "a", "b"), reasons, consumer.rests) == ([True, True], [], [])


def test_an_end_by_the_broker_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = Partitions([])

    def poll(_: float) -> Record | None:
        raise Refused("Kafka ended this consumer, which must be started again")

    monkeypatch.setattr(consumer, "poll", poll)
    with pytest.raises(Refused, match="started again"):
        Loop(consumer, Letters(), world.services.handle_record, world.services.triggers).run(lambda: False)  # type: ignore[arg-type]


def sizes(made: Record, reason: str) -> Iterator[int]:
    for letter in letters_of(made, reason):
        yield len(letter.value or b"") + len(letter.key or b"") + sum(len(v or b"") for _, v in letter.headers)


def test_a_letter_that_is_too_large_is_cut_and_says_what_it_was() -> None:
    names = json.dumps({f"f{number}": 1 for number in range(4_000)}).encode()
    big = Record("t", "id", 3, 7, b"k" * 100_000, names + b" " * 2_000_000, (("own", b"v" * 500_000),))
    outlined, bare = sizes(big, "why " * 100_000)
    assert outlined < LONGEST_OUTLINE + LONGEST_REASON + 1000
    assert bare < LONGEST_REASON + 1000
    headers = dict(list(letters_of(big, "why"))[-1].headers)
    assert headers["headrace-bytes"] == str(len(big.value)).encode()
    assert headers["headrace-sha256"] == hashlib.sha256(big.value).hexdigest().encode()
    assert (headers["headrace-topic-id"], headers["headrace-offset"]) == (b"id", b"7")


def test_a_letter_repeats_no_value_outside_of_harmless_fields() -> None:
    env = {"DB_PASSWORD": CANARY, "type": CANARY}
    config = {
        "script": {"name": "a.py", "content": CANARY},
        "parallelism": 2,
        "args": [CANARY, ["x", CANARY]],
        "env": env,
    }
    fields = {"operation": "SUBMIT", "job_id": "orders", "job_config": config, "parameters": {"job_id": CANARY}}
    value = json.dumps({**fields, f"https://u:{CANARY}@h": 1, "template_id": f"password={CANARY}"}).encode()
    headers = (("token", CANARY.encode()), ("ce_source", b"shop"), ("url", f"redis://:{CANARY}@h".encode()))
    made = Record("t", "id", 3, 7, f"https://{CANARY}@h".encode(), value, headers)
    first, *_ = letters_of(made, "why")
    assert CANARY not in repr(first)
    assert dict(first.headers)["ce_source"] == b"shop"
    outline = json.loads(first.value or b"")
    assert (outline["operation"], outline["job_id"], outline["job_config"]["parallelism"]) == ("SUBMIT", "orders", 2)
    assert outline["job_config"]["env"] == {"DB_PASSWORD": "…", "type": "…"}
    assert outline["parameters"] == {"job_id": "…"}


@pytest.mark.parametrize("value", [f'{{"password": "{CANARY}", ]'.encode(), CANARY.encode(), b"\xff" + CANARY.encode()])
def test_what_is_no_json_object_does_not_stand_in_a_letter(value: bytes) -> None:
    assert CANARY not in repr(list(letters_of(Record("t", "id", 3, 7, None, value, ()), "why")))


def test_a_reason_of_any_text_can_be_a_header() -> None:
    for letter in letters_of(record(b"x"), "half \ud83d of a pair"):
        assert b"\\ud83d" in (dict(letter.headers)["headrace-reason"] or b"")
