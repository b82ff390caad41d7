"""The checker of `./run faults`: a history in which all is well breaks no rule, and one that is changed in one place
breaks the rule that this place is about.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from headrace.domain.operations import operation_id
from tests.model.flink import FOLLOWS
from tests.processes.checker import RULES, broken
from tests.processes.history import Ask, AtRest, History, Struck, Touch, Version
from tests.processes.proxies import Write
from tests.processes.schedule import FAULTS, Event, chosen, drawn
from tests.processes.shrinking import shrunk

NAME = "orders"
SUBMIT, SCALE, STOP = (operation_id("default", key) for key in ("submit", "scale", "stop"))
PATH = "s3://b/savepoint-2"


def version(sequence: int, generation: int, flink: str, *, at: float, uid: str = "u1", **job: Any) -> Version:
    annotations = {
        "headrace.io/sequence": str(sequence),
        "headrace.io/operation-id": SUBMIT,
        "headrace.io/job-id": NAME,
    }
    metadata = {"name": NAME, "uid": uid, "generation": generation, "annotations": annotations}
    status = {"lifecycleState": "STABLE", "jobStatus": {"state": flink}}
    return Version(at, False, {"metadata": metadata, "spec": {"job": job}, "status": status})


def operation(kind: str, sequence: int, id_: str, **arguments: Any) -> dict[str, Any]:
    ended = {"state": "SUCCEEDED", "step": "AWAIT", "reason": "it is so"}
    return {"id": id_, "kind": kind, "sequence": sequence, "arguments": arguments, **ended}


def transition(number: int, before: str, after: str) -> dict[str, Any]:
    return {"number": number, "from": before, "to": after, "reason": "seen"}


def ask(kind: str, sequence: int, at: float, **arguments: Any) -> Ask:
    key = kind.lower()
    answers = [(202, operation_id("default", key))]
    return Ask(at, key, "http", kind, NAME, arguments, False, answers, sequence, at + 0.1, 0.1)


def whole() -> History:
    """A job that was submitted, scaled and stopped, its state kept, while something struck."""
    operations = [
        operation("SUBMIT", 1, SUBMIT),
        operation("SCALE", 2, SCALE, parallelism=3),
        operation("STOP", 3, STOP, force=False),
    ]
    phases = ["REQUESTED", "RUNNING", "SCALING", "RUNNING", "CANCELLING", "CANCELLED"]
    transitions = [transition(n, *pair) for n, pair in enumerate(pairwise(phases), start=1)]
    versions = [
        version(1, 1, "RUNNING", at=1, parallelism=1, state="running"),
        version(2, 2, "RUNNING", at=3, parallelism=3, state="running"),
        version(3, 3, "FINISHED", at=5, parallelism=3, state="suspended"),
    ]
    asks = [ask("SUBMIT", 1, 0), ask("SCALE", 2, 2, parallelism=3), ask("STOP", 3, 4)]
    created = Write(1, "POST", "/apis/x/flinkdeployments", {}, 201, 201, versions[0].whole)
    gone = [{"name": NAME, "uid": "u1", "latest": PATH, "kept": PATH, "stage": "SUSPENDED"}]
    at_rest = AtRest({"status": "CANCELLED"}, operations, transitions, [PATH], None, None)
    by_key = dict(zip(("submit", "scale", "stop"), operations, strict=True))
    struck, ran = [Struck(1, "kill sync", 1)], [came_to_run(1, 1), came_to_run(3, 3)]
    return History(7, asks, struck, [created], versions, {NAME: at_rest}, by_key, set(), gone, ran=ran)


def came_to_run(at: float, parallelism: int) -> dict[str, Any]:
    return {"at": at, "name": NAME, "runs_at": {FOLLOWS: parallelism}}


def at_rest(history: History, **changes: Any) -> None:
    history.jobs[NAME] = replace(history.jobs[NAME], **changes)


def is_lost(history: History) -> None:
    del history.by_key["scale"]


def a_record_is_lost(history: History) -> None:
    history.asks.append(Ask(9, "k", "kafka", "RESTART", NAME, {}, is_sure=True))


def has_not_ended(history: History) -> None:
    history.by_key["scale"] = {**history.by_key["scale"], "state": "RUNNING"}


def became_two(history: History) -> None:
    history.asks[1].answers.append((202, "another"))


def lost_a_number(history: History) -> None:
    at_rest(history, operations=[each for each in history.jobs[NAME].operations if each["sequence"] != 2])


def overtook(history: History) -> None:
    history.asks[0].sequence, history.asks[1].sequence = 2, 1


def went_back(history: History) -> None:
    history.versions.append(version(2, 4, "RUNNING", at=6, parallelism=3, state="running"))


def ended_after_a_later_one(history: History) -> None:
    first, second, third = history.jobs[NAME].operations
    late, early = ({**each, "ended_at": f"1970-01-01T00:00:{at}+00:00"} for each, at in ((second, "06"), (third, "05")))
    at_rest(history, operations=[first, late, early])


def was_overtaken(history: History) -> None:
    first, second, third = history.jobs[NAME].operations
    after = operation("RESTART", 4, "d", ended_at="1970-01-01T00:00:05+00:00")
    history.asks.append(ask("RESTART", 4, 6))
    after["id"] = operation_id("default", "restart")
    overtaken = {**operation("RESUME", 5, operation_id("default", "resume")), "state": "SUPERSEDED"}
    history.asks.append(ask("RESUME", 5, 7))
    versions = [version(4, 4, "RUNNING", at=6, parallelism=3, state="running")]
    versions[0].whole["spec"]["restartNonce"] = 4
    history.versions += versions
    history.by_key |= {"restart": after, "resume": overtaken}
    at_rest(history, operations=[first, second, third, after, overtaken])


def made_two(history: History) -> None:
    again = version(1, 1, "RUNNING", at=2, uid="u2").whole
    history.writes.append(replace(history.writes[0], at=2, stored=again))


def changed_thrice(history: History) -> None:
    history.versions[2:2] = [version(2, n, "RUNNING", at=4, parallelism=n, state="running") for n in (3, 4, 5)]


def never_scaled(history: History) -> None:
    history.versions = [v for v in history.versions if v.whole["spec"]["job"]["parallelism"] != 3]


def scaled_too_late(history: History) -> None:
    """It had ended before anything showed so; when it ran so nobody has said."""
    history.ran.clear()
    ended = {**history.jobs[NAME].operations[1], "ended_at": "1970-01-01T00:00:01+00:00"}
    at_rest(history, operations=[history.jobs[NAME].operations[0], ended, history.jobs[NAME].operations[2]])


def rose_again(history: History) -> None:
    at_rest(history, live=version(3, 4, "RUNNING", at=8).whole, job={"status": "CANCELLED"})


def dropped_its_state(history: History) -> None:
    at_rest(history, savepoints=["s3://b/savepoint-1"])


def failed_without_failing(history: History) -> None:
    before = list(history.jobs[NAME].transitions)
    at_rest(history, transitions=[*before, transition(6, "CANCELLED", "FAILED")], job={"status": "FAILED"})


def rejected_without_a_refusal(history: History) -> None:
    before = list(history.jobs[NAME].transitions)
    rejected = {**transition(6, "CANCELLED", "REJECTED"), "reason": "the Kubernetes API answered 410"}
    at_rest(history, transitions=[*before, rejected], job={"status": "REJECTED"})


def passed_early(history: History) -> None:
    late = {"state": "FAILED", "reason": "its deadline passed: no progress", "deadline_seconds": 180.0}
    history.by_key["stop"] = {**history.by_key["stop"], **late}


def lost_a_transition(history: History) -> None:
    at_rest(history, transitions=[t for t in history.jobs[NAME].transitions if t["number"] != 3])


def shows_what_is_not(history: History) -> None:
    before = list(history.jobs[NAME].transitions)
    at_rest(history, transitions=[*before, transition(6, "CANCELLED", "RUNNING")], job={"status": "RUNNING"})


def never_ran_so(history: History) -> None:
    history.ran.pop()


def did_more_in_place(history: History) -> None:
    first, scale, last = history.jobs[NAME].operations
    at_rest(history, operations=[first, {**scale, "reason": "in place: the job runs at 3"}, last])


def runs_at_what_it_had(history: History) -> None:
    """It was never stopped, and its JobManager was told otherwise by somebody who was late."""
    job, live = history.jobs[NAME], history.versions[1].whole
    truth = {"stage": "RUNNING", "runs_at": {FOLLOWS: 1}}
    at_rest(history, operations=job.operations[:2], transitions=job.transitions[:3], live=live, truth=truth)
    at_rest(history, job={"status": "RUNNING"})
    history.asks.pop()
    history.gone.clear()


def hung(history: History) -> None:
    history.asks[1].longest_seconds = 39.0


def never_rested(history: History) -> None:
    history.restless = "orders: SCALE 2 at AWAIT_RUNNING"


def lost_a_file(history: History) -> None:
    history.missing.append("file:///state/savepoint-1")


def started_from_elsewhere(history: History) -> None:
    history.wrong.append(f"{NAME} starts from None, and its state is s3://b/savepoint-1")


CASES: dict[Callable[[History], None], str] = {
    never_rested: "everything comes to rest",
    is_lost: "nothing is lost",
    a_record_is_lost: "nothing is lost",
    has_not_ended: "nothing is lost",
    became_two: "one key is one operation",
    lost_a_number: "operations take effect in their order",
    overtook: "operations take effect in their order",
    ended_after_a_later_one: "each has its turn",
    was_overtaken: "each has its turn",
    went_back: "the fence never goes back",
    made_two: "one operation makes one deployment",
    changed_thrice: "one operation changes the spec once",
    never_scaled: "what succeeded is so",
    scaled_too_late: "what succeeded is so",
    never_ran_so: "what is scaled runs so",
    did_more_in_place: "what is scaled runs so",
    runs_at_what_it_had: "what was scaled last runs so",
    rose_again: "nothing is resurrected",
    dropped_its_state: "no state is dropped",
    lost_a_file: "kept state is there",
    started_from_elsewhere: "what starts is right",
    failed_without_failing: "no failure without one",
    rejected_without_a_refusal: "no failure without one",
    lost_a_transition: "the history has no hole",
    shows_what_is_not: "the record says what is",
    hung: "no call is endless",
    passed_early: "no deadline passes early",
}


def test_a_history_in_which_all_is_well_breaks_nothing() -> None:
    assert broken(whole()) == []


@pytest.mark.parametrize("breaks", CASES, ids=lambda each: each.__name__)
def test_one_thing_wrong_breaks_its_rule_alone(breaks: Callable[[History], None]) -> None:
    history = copy.deepcopy(whole())
    breaks(history)
    assert {why.partition(":")[0] for why in broken(history)} == {CASES[breaks]}


def test_what_a_native_job_came_to_is_a_version_of_the_deployment_that_was_there() -> None:
    history = History(0)
    history.versions += [version(1, 1, "", at=1.0), version(2, 2, "", at=3.0)]
    history.show([{"at": at, "name": NAME, "uid": "u1", "stage": stage} for at, stage in ((2.0, "RUNNING"), (4, "X"))])
    states = [each.whole["status"]["jobStatus"]["state"] for each in history.versions]
    assert [each.sequence for each in history.versions] == [1, 1, 2, 2]
    assert states == ["", "RUNNING", "", "X"]


def test_every_rule_can_be_broken() -> None:
    assert {*CASES.values(), *OF_SOMEBODYS.values()} == set(RULES)


# A deployment of somebody's


ADOPT, RELEASE = (operation_id("default", key) for key in ("adopt", "release"))


def marked(
    sequence: int, generation: int, made_by: str, *, at: float, uid: str = "u1", parallelism: int = 1
) -> Version:
    found = version(sequence, generation, "RUNNING", at=at, uid=uid, parallelism=parallelism, state="running")
    found.whole["metadata"]["annotations"]["headrace.io/operation-id"] = made_by
    return found


def unmarked(generation: int, *, at: float, parallelism: int = 1, **metadata: Any) -> Version:
    found = version(0, generation, "RUNNING", at=at, parallelism=parallelism, state="running")
    found.whole["metadata"]["annotations"] = {"theirs": "yes"}
    found.whole["metadata"] |= metadata
    return found


def somebodys() -> History:
    """A deployment that somebody has made, that was adopted, scaled and released, and that goes on."""
    operations = [
        operation("ADOPT", 1, ADOPT),
        operation("SCALE", 2, SCALE, parallelism=3),
        operation("RELEASE", 3, RELEASE),
    ]
    phases = ["REQUESTED", "RUNNING", "SCALING", "RUNNING", "RELEASED"]
    transitions = [transition(n, *pair) for n, pair in enumerate(pairwise(phases), start=1)]
    versions = [
        unmarked(1, at=0.5),
        marked(1, 1, ADOPT, at=1),
        marked(2, 2, ADOPT, at=3, parallelism=3),
        unmarked(2, at=5, parallelism=3),
    ]
    asks = [ask("ADOPT", 1, 0), ask("SCALE", 2, 2, parallelism=3), ask("RELEASE", 3, 4)]
    by_key = dict(zip(("adopt", "scale", "release"), operations, strict=True))
    job = AtRest({"status": "RELEASED"}, operations, transitions, [], versions[-1].whole, {"stage": "RUNNING"})
    touches = [touch("makes", 0.4, made="u1")]
    return History(7, asks, [], [], versions, {NAME: job}, by_key, set(), [], touches=touches)


def adopting_scaled_it(history: History) -> None:
    history.versions[1] = marked(1, 2, ADOPT, at=1, parallelism=2)
    history.versions[2:] = [marked(2, 3, ADOPT, at=3, parallelism=3), unmarked(3, at=5, parallelism=3)]
    at_rest(history, live=history.versions[-1].whole)


def releasing_suspended_it(history: History) -> None:
    history.versions[-1] = unmarked(3, at=5, parallelism=3, state="suspended")


def deleted_after_its_release(history: History) -> None:
    history.versions.append(unmarked(2, at=6, parallelism=3, deletionTimestamp="now"))
    at_rest(history, live=None)


def claimed_twice(history: History) -> None:
    history.versions[1:1] = [marked(1, 1, ADOPT, at=0.6), unmarked(1, at=0.7)]
    failed = {**history.jobs[NAME].operations[0], "state": "FAILED"}  # so that it may be let go of
    at_rest(history, operations=[failed, *history.jobs[NAME].operations[1:]])


def released_and_kept(history: History) -> None:
    history.versions.append(marked(2, 2, ADOPT, at=6, parallelism=3))
    at_rest(history, live=history.versions[-1].whole)


def nobody_released_it(history: History) -> None:
    at_rest(history, operations=history.jobs[NAME].operations[:2])


def nobody_asked_for_it(history: History) -> None:
    operations = [*history.jobs[NAME].operations, operation("ADOPT", 4, "another")]
    operations[-1]["state"] = "FAILED"
    at_rest(history, operations=operations)


OF_SOMEBODYS: dict[Callable[[History], None], str] = {
    adopting_scaled_it: "what is nobody's is left alone",
    releasing_suspended_it: "what is nobody's is left alone",
    deleted_after_its_release: "what is nobody's is left alone",
    claimed_twice: "marks are put once",
    released_and_kept: "marks are put once",
    nobody_released_it: "the fence never goes back",
    nobody_asked_for_it: "one key is one operation",
}


def test_a_deployment_of_somebodys_comes_and_goes_as_it_is() -> None:
    assert broken(somebodys()) == []


@pytest.mark.parametrize("breaks", OF_SOMEBODYS, ids=lambda each: each.__name__)
def test_what_is_done_to_somebodys_deployment_is_caught(breaks: Callable[[History], None]) -> None:
    history = somebodys()
    breaks(history)
    assert {why.partition(":")[0] for why in broken(history)} == {OF_SOMEBODYS[breaks]}


def test_what_a_hand_does_to_a_deployment_of_its_own_is_its_own_affair() -> None:
    history = somebodys()
    adopting_scaled_it(history)
    deleted_after_its_release(history)
    history.touches += [touch("edits", 0.8, uid="u1", generation=2), touch("deletes", 5.9, uid="u1")]
    assert broken(history) == []


# Hands


def touch(what: str, at: float, **done: Any) -> Touch:
    return Touch(at, at + 0.1, f"hand {what}", NAME, **done)


def changed_by_a_hand_too(history: History, times: int) -> None:
    """The operation's own change, somebody's edit after it, and so many changes of ours after that."""
    generations = range(3, 4 + times)
    history.versions[2:2] = [version(2, n, "RUNNING", at=4, parallelism=n, state="running") for n in generations]
    history.versions[-1] = version(3, 4 + times, "FINISHED", at=5, parallelism=3, state="suspended")
    history.touches.append(touch("edits", 3.5, uid="u1", generation=3))


def made_it_again(history: History, hand: Touch) -> None:
    made_two(history)
    history.touches.append(hand)


def rose_by_hand(history: History, hand: Touch) -> None:
    """With a backup's annotations, while the STOP has ended a minute after its asking."""
    stop = {**history.jobs[NAME].operations[2], "ended_at": "1970-01-01T00:01:00+00:00"}
    live = version(2, 1, "RUNNING", at=8, uid="u2").whole
    at_rest(history, operations=[*history.jobs[NAME].operations[:2], stop], live=live, job={"status": "CANCELLED"})
    history.touches.append(hand)


def dropped_after(history: History, hand: Touch) -> None:
    dropped_its_state(history)
    history.touches.append(hand)


def dropped_after_ours(history: History, hand: Touch) -> None:
    """Our own deletion was first: there was nothing left for the hand to take."""
    dropped_after(history, hand)
    sent = {"preconditions": {"uid": "u1"}}
    history.writes.append(Write(4.5, "DELETE", f"/apis/x/flinkdeployments/{NAME}", sent, 200, None))


EXCUSED: dict[str, Callable[[History], None]] = {
    "one change more after an edit": lambda h: changed_by_a_hand_too(h, 2),
    "another one once it was deleted": lambda h: made_it_again(h, touch("deletes", 1.5, uid="u1")),
    "one that was restored after the stop": lambda h: rose_by_hand(h, touch("restores", 61, uid="u1", made="u2")),
    "the state of one that somebody deleted": lambda h: dropped_after(h, touch("deletes", 5, uid="u1")),
}

NOT_EXCUSED: dict[str, tuple[str, Callable[[History], None]]] = {
    "two changes more after an edit": (
        "one operation changes the spec once",
        lambda h: changed_by_a_hand_too(h, 3),
    ),
    "another one before it was deleted": (
        "one operation makes one deployment",
        lambda h: made_it_again(h, touch("deletes", 2.5, uid="u1")),
    ),
    "another one after an edit": (
        "one operation makes one deployment",
        lambda h: made_it_again(h, touch("edits", 1.5, uid="u1", generation=9)),
    ),
    "one that was restored long before the stop had ended": (
        "nothing is resurrected",
        lambda h: rose_by_hand(h, touch("restores", 20, uid="u1", made="u2")),
    ),
    "one that stays after its label was taken off": (
        "nothing is resurrected",
        lambda h: rose_by_hand(h, touch("relabels", 61, uid="u2")),
    ),
    "the state after an edit": (
        "no state is dropped",
        lambda h: dropped_after(h, touch("edits", 4, uid="u1", generation=9)),
    ),
    "the state where another one was deleted": (
        "no state is dropped",
        lambda h: dropped_after(h, touch("deletes", 5, uid="u0")),
    ),
    "the state where ours was the deletion": (
        "no state is dropped",
        lambda h: dropped_after_ours(h, touch("deletes", 5, uid="u1")),
    ),
}


@pytest.mark.parametrize("case", EXCUSED)
def test_a_hand_excuses_what_it_has_done(case: str) -> None:
    history = whole()
    EXCUSED[case](history)
    assert broken(history) == []


@pytest.mark.parametrize("case", NOT_EXCUSED)
def test_a_hand_excuses_nothing_else_of_its_job(case: str) -> None:
    rule, breaks = NOT_EXCUSED[case]
    history = whole()
    breaks(history)
    assert {why.partition(":")[0] for why in broken(history)} == {rule}


def test_the_same_seed_is_the_same_schedule_and_a_hundred_strike_each_fault_often() -> None:
    assert drawn(3, 30, 3) == drawn(3, 30, 3) != drawn(4, 30, 3)
    struck = [event.what for seed in range(100) for event in drawn(seed, 30, 3)]
    assert min(struck.count(what) for what in FAULTS) >= 20


def test_a_broken_schedule_shrinks_to_what_breaks_it() -> None:
    events = drawn(1, 30, 3)

    def play(part: list[Event]) -> History:
        history = whole()
        if {5, 20} <= {event.number for event in part}:
            is_lost(history)
        return history

    few, last = shrunk(events, play, 60)
    assert list(few) == chosen(events, {5, 20})
    assert last is not None
    assert broken(last)
