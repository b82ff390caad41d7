"""Events through triggers in memory: one operation each, whatever is delivered again, changed or refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.bootstrap import wired
from headrace.domain.incoming_events import Arrived, Origin
from headrace.domain.jobs import JobKey
from headrace.domain.operations import KINDS, Kind
from headrace.domain.triggers import MOST_TRIGGERS, parse_trigger
from headrace.errors import InvalidRequest, NotFound, TooMany, Unavailable
from headrace.ports import DeadLetter, NotThere, Scope
from headrace.services.handle_record import Handled
from headrace.services.replay import Outcome, Replay
from headrace.settings import Settings
from headrace.testing import InMemoryStore
from tests.support.world import SCRIPT, World

SUBMIT = {"operation": "SUBMIT", "job_id": "${data.job}", "job_config": {"script": SCRIPT}}
RULE = {"name": "uploads", "topic": "uploads", "action": SUBMIT}
CANARY = "canary-77aa"


def arrived(data: Any, offset: int = 0, *, topic: str = "uploads", partition: int = 0) -> Arrived:
    value = data if isinstance(data, bytes) else json.dumps(data).encode()
    return Arrived(value, Origin(topic, f"{topic}-1", partition, offset))


def event(world: World, data: Any, offset: int = 0, **where: Any) -> Handled:
    return world.services.handle_record.handle_any(arrived(data, offset, **where))


def count(world: World, job_id: str) -> int:
    return len(world.store.operations_of(JobKey("default", job_id)))


def test_an_event_becomes_one_operation_however_often_it_comes(world: World) -> None:
    world.services.triggers.apply(RULE)
    first, again = (event(world, {"job": "a"}) for _ in range(2))
    assert [handled.accepted[0].created for handled in (first, again)] == [True, False]
    assert first.accepted[0].operation.id == again.accepted[0].operation.id
    source = first.accepted[0].operation.source
    assert (source.via, source.detail["trigger"], source.detail["offset"]) == ("kafka", "uploads", 0)
    assert count(world, "a") == 1


def test_a_cloud_event_is_one_wherever_it_is_read_and_a_key_makes_events_one(world: World) -> None:
    world.services.triggers.apply(RULE)
    cloud = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"job": "a"}}
    found = [event(world, cloud, offset, partition=offset).accepted[0].created for offset in range(3)]
    world.services.triggers.apply({**RULE, "name": "by-key", "topic": "keyed", "key": "${data.about}"})
    keyed = [{"job": f"b{number}", "about": "one"} for number in range(3)]
    found += [event(world, data, offset, topic="keyed").accepted[0].created for offset, data in enumerate(keyed)]
    assert found == [True, False, False] * 2
    assert [count(world, name) for name in ("a", "b0", "b1")] == [1, 1, 0]


def test_a_rule_that_changed_makes_nothing_anew_of_what_was_done(world: World) -> None:
    world.services.triggers.apply(RULE)
    event(world, {"job": "a"})
    changed = {
        **RULE,
        "action": {**SUBMIT, "job_id": "other-${data.job}", "job_config": {"script": SCRIPT, "parallelism": 3}},
    }
    assert world.services.triggers.apply(changed).revision == 2
    again = event(world, {"job": "a"})
    assert (again.accepted[0].created, again.refused) == (False, {})
    assert count(world, "other-a") == 0


def test_what_was_done_is_not_refused_by_what_the_rule_says_by_now(world: World) -> None:
    world.services.triggers.apply(RULE)
    event(world, {"job": "a"})
    world.services.triggers.apply({**RULE, "action": {**SUBMIT, "job_id": "no/name"}})
    assert [accepted.created for accepted in event(world, {"job": "a"}).accepted] == [False]


def test_of_two_consumers_with_two_revisions_the_first_is_right(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one's operation comes between its look and its accept."""
    world.services.triggers.apply(RULE)
    event(world, {"job": "a"})
    world.services.triggers.apply({**RULE, "action": {**SUBMIT, "job_id": "b"}})
    looks, stored = iter([None]), world.store.operation_by_key
    monkeypatch.setattr(world.store, "operation_by_key", lambda *named: next(looks, stored(*named)))
    handled = event(world, {"job": "a"})
    assert ([accepted.operation.job_id for accepted in handled.accepted], handled.refused) == (["a"], {})
    assert count(world, "b") == 0


def test_each_trigger_of_a_topic_asks_for_itself(world: World) -> None:
    world.services.triggers.apply(RULE)
    world.services.triggers.apply({**RULE, "name": "broken", "action": {**SUBMIT, "job_id": "${data.nope}"}})
    world.services.triggers.apply({**RULE, "name": "seldom", "when": "data.urgent"})
    handled = event(world, {"job": "a"})
    assert [accepted.operation.job_id for accepted in handled.accepted] == ["a"]
    assert list(handled.refused) == ["broken"]
    assert "the event has no data.nope" in str(handled.refused["broken"])


@pytest.mark.parametrize("value", [b"\xff", b"{", b"[" * 2_000])
def test_what_is_no_event_is_refused_by_each_trigger_and_by_none_where_there_is_none(
    world: World, value: bytes
) -> None:
    assert event(world, value) == Handled()
    world.services.triggers.apply(RULE)
    assert list(event(world, value).refused) == ["uploads"]


def test_what_accept_refuses_is_refused(world: World) -> None:
    world.services.triggers.apply({**RULE, "action": {"operation": "STOP", "job_id": "${data.job}"}})
    assert isinstance(event(world, {"job": "nobody"}).refused["uploads"], NotFound)
    assert isinstance(event(world, {"job": "/"}).refused["uploads"], InvalidRequest)


def test_no_secret_of_an_event_gets_into_a_record(world: World) -> None:
    """By the policy for brokers' messages: an event is stored as it was sent."""
    env = {"env": {"DB_PASSWORD": "${data.word}"}}
    world.services.triggers.apply({**RULE, "action": {**SUBMIT, "job_config": {"script": SCRIPT, **env}}})
    refused = event(world, {"job": "a", "word": CANARY}).refused["uploads"]
    assert "a kafka message is stored as it was sent" in str(refused)
    assert CANARY not in str(refused) + str(world.dump())


def test_a_store_that_does_not_answer_is_no_letter(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.services.triggers.apply(RULE)

    def away(*_: Any) -> Any:
        raise Unavailable("MongoDB did not answer")

    monkeypatch.setattr(world.store, "operation_by_key", away)
    with pytest.raises(Unavailable):
        event(world, {"job": "a"})


def test_a_changed_trigger_counts_after_three_seconds(world: World) -> None:
    assert event(world, {"job": "a"}) == Handled()
    scope = Scope("default", "default", "default")
    world.store.put_trigger(scope, parse_trigger(RULE))
    assert world.services.triggers.topics() == []
    world.clock.advance(4)
    assert world.services.triggers.topics() == ["uploads"]
    assert len(event(world, {"job": "a"}).accepted) == 1
    world.store.delete_trigger(scope, "uploads")
    assert len(event(world, {"job": "a"}).accepted) == 1
    world.clock.advance(4)
    assert event(world, {"job": "b"}) == Handled()


def test_our_own_topics_have_no_triggers(world: World) -> None:
    for topic in ("headrace.operations", "headrace.operations.dead-letters"):
        with pytest.raises(InvalidRequest, match="topic: is Headrace's own"):
            world.services.triggers.apply({**RULE, "topic": topic})


def test_there_are_so_many_triggers_at_most(world: World) -> None:
    for number in range(MOST_TRIGGERS):
        world.services.triggers.apply({**RULE, "name": f"r{number}"})
    with pytest.raises(TooMany, match="delete one first"):
        world.services.triggers.apply({**RULE, "name": "one-more"})
    assert world.services.triggers.apply({**RULE, "name": "r7", "when": "data.x"}).revision == 2


def test_a_trigger_that_is_not_there_is_not_found(world: World) -> None:
    for ask in (world.services.triggers.one, world.services.triggers.delete):
        with pytest.raises(NotFound, match="there is none of this name"):
            ask("nobody")


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.word)
def test_each_kind_can_be_an_action(kind: Kind, world: World) -> None:
    """A kind that is new is one too: only an argument that it does not have is refused here."""
    action = {"operation": kind.name, "job_id": "${data.job}", "no_such_field": "${data.x}"}
    with pytest.raises(InvalidRequest) as refused:
        world.services.triggers.apply({**RULE, "action": action})
    assert "action.no_such_field: unknown field" in str(refused.value)
    assert "action.operation" not in str(refused.value)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), max_size=30), order=st.randoms())
def test_events_in_any_order_and_number_are_the_distinct_operations(
    world: World, events: list[tuple[int, int]], order: Any
) -> None:
    """A redelivery, a rebalance and a replay are all this: some records again, in another order."""
    scope, tenant = Scope("default", "c", "n"), "default"
    store = InMemoryStore()
    store.put_trigger(scope, parse_trigger(RULE))
    services = wired(
        Settings(cluster="c", namespace="n", _env_file=None),
        store=store,
        queue=world.queue,
        runtime=world.runtime,
        job_manager=world.job_manager,
        clock=world.clock,
        sealer=None,
    )
    records = [
        arrived({"specversion": "1.0", "id": str(n), "source": "/s", "type": "t", "data": {"job": f"j{n}"}}, offset)
        for n, offset in events
    ]
    again = [*records, *records]
    order.shuffle(again)
    for record in again:
        services.handle_record.handle_any(record)
    made = {n: len(store.operations_of(JobKey(tenant, f"j{n}"))) for n, _ in events}
    assert set(made.values()) <= {1}


# Dead letters


class Letters:
    """Letters, and the records that are still there, by their origin's key."""

    def __init__(self, letters: Sequence[DeadLetter] = (), records: Sequence[Arrived] = ()) -> None:
        self.letters = list(letters)
        self.records = {record.origin.key: record for record in records}

    def newest(self, limit: int) -> Sequence[DeadLetter]:
        return self.letters[-limit:]

    def letter(self, letter_id: str) -> DeadLetter | None:
        return next((letter for letter in self.letters if letter.id == letter_id), None)

    def record_of(self, letter: DeadLetter) -> Arrived | NotThere:
        return self.records.get(letter.origin.key) or NotThere("topic uploads does not keep it any more")


def letter(record: Arrived, *triggers: str, letter_id: str = "0-0") -> DeadLetter:
    digest = sha256(record.value).hexdigest()
    return DeadLetter(letter_id, None, "because", triggers, record.origin, len(record.value), digest)


def replaying(world: World, letters: Letters | None) -> Replay:
    return Replay(letters, world.services.handle_record, world.services.triggers)


def test_a_letter_is_replayed_once_its_rule_is_mended_and_only_once(world: World) -> None:
    world.services.triggers.apply({**RULE, "action": {**SUBMIT, "job_id": "${data.nope}"}})
    record = arrived({"job": "a"}, 7)
    replay = replaying(world, Letters([letter(record, "uploads")], [record]))
    refused = replay.replay("0-0")
    assert (refused.outcome, refused.operation_ids) == (Outcome.REFUSED, [])
    assert "uploads: action.job_id: the event has no data.nope" in refused.reason
    world.services.triggers.apply(RULE)
    outcomes = [replay.replay("0-0") for _ in range(2)]
    assert [each.outcome for each in outcomes] == [Outcome.ACCEPTED, Outcome.KNOWN]
    assert outcomes[0].operation_ids == outcomes[1].operation_ids
    assert count(world, "a") == 1


def test_a_letter_of_the_operations_topic_is_replayed_under_its_own_name(world: World) -> None:
    stop = arrived({"operation": "STOP", "job_id": "orders"}, 3, topic="headrace.operations")
    replay = replaying(world, Letters([letter(stop)], [stop]))
    assert replay.replay("0-0").outcome is Outcome.REFUSED
    world.submit()
    assert [replay.replay("0-0").outcome for _ in range(2)] == [Outcome.ACCEPTED, Outcome.KNOWN]
    assert world.services.handle_record.handle(stop.value, stop.origin).created is False


def test_what_cannot_be_replayed_is_said_in_words(world: World) -> None:
    world.services.triggers.apply(RULE)
    gone, foreign, removed = arrived({}, 1), arrived({}, 2, topic="payroll"), arrived({}, 3)
    letters = [
        letter(gone, "uploads", letter_id="0-1"),
        letter(foreign, letter_id="0-2"),
        letter(removed, "since-removed", letter_id="0-3"),
    ]
    replay = replaying(world, Letters(letters, [foreign, removed]))
    found = [replay.replay(each.id) for each in letters]
    assert {each.outcome for each in found} == {Outcome.NOT_REPLAYABLE}
    assert "does not keep it" in found[0].reason
    assert "payroll is not where operations come from" in found[1].reason
    assert "no trigger of topic uploads is called since-removed" in found[2].reason


def test_only_the_triggers_that_refused_a_record_get_it_again(world: World) -> None:
    world.services.triggers.apply(RULE)
    world.services.triggers.apply({**RULE, "name": "later", "action": {**SUBMIT, "job_id": "later"}})
    record = arrived({"job": "a"})
    replaying(world, Letters([letter(record, "uploads")], [record])).replay("0-0")
    assert (count(world, "a"), count(world, "later")) == (1, 0)


def test_a_letter_that_is_not_there_is_not_found(world: World) -> None:
    for letters in (None, Letters()):
        assert replaying(world, letters).letters(10) in ((), [])
        with pytest.raises(NotFound, match="there is none of this id"):
            replaying(world, letters).replay("0-0")


def test_a_trigger_of_another_installation_is_not_ours(world: World) -> None:
    other = Scope("default", "default", "elsewhere")
    world.store.put_trigger(other, replace(parse_trigger(RULE), name="theirs"))
    assert world.services.triggers.all() == []
