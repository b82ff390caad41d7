"""The rules that always hold, asked of a history: what was acknowledged is done once, in order, and keeps its state.

Pure: it may know what the readers' API and Kubernetes show, and nothing of how a history came about.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any

from headrace.domain.jobs import SETTLED, Phase
from headrace.domain.operations import operation_id
from headrace.domain.operations.operation import LONGEST_LOOK_SECONDS
from tests.model.flink import FOLLOWS, Stage, is_of_overrides, overrides_in
from tests.model.promises import GIVES_PARALLELISM, SHOWN
from tests.processes.history import AtRest, History, Version

TERMINAL = ("SUCCEEDED", "FAILED", "CANCELLED", "SUPERSEDED")
ENDS_THE_RUN = ("STOP", "DELETE")
LONGEST_ANSWER_SECONDS = 25.0
"""Our processes wait 3 s for each server, and a frozen one is frozen for 4 s at most."""

MOST_CHANGES = 2
"""Of the spec by one operation: its own, and the one that takes it back."""

REFUSALS = (409, 422)
DEPLOYMENTS = ("/flinkdeployments", "/deployments")
"""Where a run is made, by either runtime."""

SEEN_LATE_SECONDS = 1.0
"""How much later than our processes whoever keeps the history may see a version."""
LAST_LOOK_SECONDS = 5.0
"""What may pass between the last look of an operation and the end that is written of it, while servers are slow."""

DEADLINE, IN_PLACE, FINISHED = "its deadline passed", "in place", "FINISHED"
"""In reasons of operations."""

AT_REST_SECONDS = 10.0
"""What may pass between the last that was seen of a deployment and the end of a history, at most, by and large."""

Rule = Callable[[History], Iterator[str]]


def broken(history: History) -> list[str]:
    """Every rule that this history breaks, in words; none where all is well."""
    return [f"{name}: {why}" for name, rule in RULES.items() for why in rule(history)]


def _all_came_to_rest(history: History) -> Iterator[str]:
    if history.restless:
        yield history.restless


def _nothing_is_lost(history: History) -> Iterator[str]:
    """Rule 1, and rule 6: what was acknowledged is on record, and has ended with a reason."""
    for ask in history.asks:
        found = history.by_key.get(ask.key)
        if found is None and ask.acknowledged:
            yield f"{ask.kind} {ask.key} was acknowledged, and is on no record"
        if found is None and ask.is_sure and ask.key not in history.letters:
            yield f"{ask.kind} {ask.key} was put into Kafka, and is neither on record nor put aside"
        if found is not None and (found["state"] not in TERMINAL or not found["reason"]):
            yield f"{ask.kind} {ask.key} is {found['state']} at {found['step']}, with the reason {found['reason']!r}"


def _one_key_is_one_operation(history: History) -> Iterator[str]:
    """Rule 2: however often it is asked for, and by whichever way; and each operation is one that was asked for."""
    for ask in history.asks:
        if ask.acknowledged - {operation_id("default", ask.key)}:
            yield f"{ask.kind} {ask.key} has become {sorted(ask.acknowledged)}"
    asked = {operation_id("default", ask.key) for ask in history.asks}
    for name, at_rest in history.jobs.items():
        for each in at_rest.operations:
            if each["id"] not in asked:
                yield f"{name}: nobody has asked for {each['kind']} {each['sequence']}"
    of_ids = [each["id"] for at_rest in history.jobs.values() for each in at_rest.operations]
    if len(set(of_ids)) != len(of_ids):
        yield "an operation is in a log twice"


def _operations_are_in_their_order(history: History) -> Iterator[str]:
    """Rule 3: a job's sequence has no hole, and what was answered before another was asked comes before it."""
    for name, at_rest in history.jobs.items():
        numbers = sorted(each["sequence"] for each in at_rest.operations)
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"{name} has the operations {numbers}"
    for name in history.jobs:
        asks = [each for each in history.asks if each.job_id == name and each.sequence is not None]
        for one in asks:
            for other in asks:
                if one.answered_at is not None and one.answered_at < other.at and one.sequence > other.sequence:
                    yield f"{one.key} was answered before {other.key} was asked for, and comes after it"


def _each_has_its_turn(history: History) -> Iterator[str]:
    """Rule 3: what comes later ends later, and only what ends the run, or a SCALE after another, ends what is before
    it. When something has ended is known while all clocks are right."""
    for name, at_rest in history.jobs.items():
        in_order = sorted(at_rest.operations, key=lambda each: each["sequence"])
        had_turns = [each for each in in_order if each["state"] not in ("SUPERSEDED", "CANCELLED")]
        for before, after in pairwise(had_turns):
            if not _has_skew(history) and math.inf > _ended_at(before) > _ended_at(after):
                yield f"{name}: {before['kind']} {before['sequence']} ended after {after['kind']} {after['sequence']}"
        for number, each in enumerate(in_order):
            if each["state"] == "SUPERSEDED" and not any(_supersedes(later, each) for later in in_order[number + 1 :]):
                yield f"{name}: {each['kind']} {each['sequence']} is SUPERSEDED, and by nothing: {each['reason']}"


def _supersedes(later: Mapping[str, Any], earlier: Mapping[str, Any]) -> bool:
    return later["kind"] in ENDS_THE_RUN or (later["kind"], earlier["kind"]) == ("SCALE", "SCALE")


def _the_fence_never_goes_back(history: History) -> Iterator[str]:
    """Rule 3: of one deployment the sequence only grows, and who wants it no more is the only one to take it off."""
    for versions in _by_uid(history).values():
        name, highest = versions[0].name, 0
        for before, after in pairwise(versions):
            highest = max(highest, before.sequence)
            if after.is_ours and after.sequence < highest:
                yield f"{name}: the sequence went from {highest} back to {after.sequence}"
            if before.is_ours and not after.is_ours and not _lets_go(history, name, before.sequence):
                yield f"{name}: its annotations are gone after {before.sequence}, and nobody wanted that"


def _lets_go(history: History, name: str, sequence: int) -> bool:
    """Whether there is a RELEASE after this operation, or it is an ADOPT that nobody wanted any more."""
    operations = history.jobs[name].operations if name in history.jobs else ()
    return any(
        (each["kind"] == "RELEASE" and each["sequence"] > sequence)
        or (each["kind"] == "ADOPT" and each["sequence"] == sequence and each["state"] != "SUCCEEDED")
        for each in operations
    )


def _nobodys_is_left_alone(history: History) -> Iterator[str]:
    """Rule 13: what has no mark of ours is changed and deleted by hands alone, and an ADOPT and a RELEASE change
    nothing but marks: the deployment runs on."""
    for name in history.jobs:
        marking = {each["sequence"] for each in history.jobs[name].operations if each["kind"] in ("ADOPT", "RELEASE")}
        for before, after in _pairs_of(history, name):
            is_nobodys = not after.is_ours or after.sequence in marking
            is_hands = history.is_by_hand(after.uid, after.generation)
            changed = not after.is_leaving and (after.generation, after.spec) != (before.generation, before.spec)
            if is_nobodys and changed and not is_hands:
                yield f"{name}: the spec of what was nobody's has changed, to generation {after.generation}"
            left = after.is_leaving and not before.is_leaving
            if left and not after.is_ours and history.deleted_by_hand(after.uid) is None:
                yield f"{name}: what was nobody's was deleted"


def _marks_are_put_once(history: History) -> Iterator[str]:
    """Rule 2: an ADOPT makes one deployment the job's, once; and where a RELEASE was last, none has a mark of ours."""
    for name, at_rest in history.jobs.items():
        adopted = {each["id"] for each in at_rest.operations if each["kind"] == "ADOPT"}
        pairs = _pairs_of(history, name)
        claims = Counter(a.made_by for b, a in pairs if a.made_by in adopted and a.made_by != b.made_by)
        for operation, count in claims.items():
            if count > 1:
                yield f"{name}: the ADOPT {operation} has claimed {count} times"
        done = [each for each in at_rest.operations if each["state"] == "SUCCEEDED"]
        newest = max(done, key=lambda each: each["sequence"], default=None)
        live = Version(0, False, at_rest.live) if at_rest.live else None
        if newest is None or newest["kind"] != "RELEASE" or live is None or not live.is_ours:
            continue
        if not _is_made_after(history, live.uid, newest):
            yield f"{name}: RELEASE {newest['sequence']} SUCCEEDED, and its deployment has our annotations"


def _pairs_of(history: History, name: str) -> list[tuple[Version, Version]]:
    """Each version of a deployment of this name with the next one of it."""
    return [pair for versions in _by_uid(history).values() if versions[0].name == name for pair in pairwise(versions)]


def _one_operation_makes_one_deployment(history: History) -> Iterator[str]:
    """Rule 2: another one only after somebody has deleted the one before."""
    made: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for write in history.writes:
        if write.method == "POST" and write.status == 201 and write.path.endswith(DEPLOYMENTS):
            version = Version(write.at, False, write.stored)
            made[version.name, version.made_by].setdefault(version.uid, write.at)
    for (name, operation), uids in made.items():
        for (before, _), (_, again_at) in pairwise(sorted(uids.items(), key=lambda each: each[1])):
            deleted_at = history.deleted_by_hand(before)
            if deleted_at is None or deleted_at > again_at:
                yield f"{name}: the operation {operation} has made {len(uids)} deployments"


def _one_operation_changes_once(history: History) -> Iterator[str]:
    """Rule 2: an operation changes the spec once, and once more where it is taken back. What somebody has edited since
    may be made as wanted again: each edit excuses one change, of the operation that it met."""
    ours, theirs = Counter[tuple[str, str, int]](), Counter[tuple[str, str, int]]()
    for version in _new_generations(history):
        of = (version.name, version.uid, version.sequence)
        (theirs if history.is_by_hand(version.uid, version.generation) else ours)[of] += 1
    for (name, uid, sequence), count in ours.items():
        if sequence and count > MOST_CHANGES + theirs[name, uid, sequence]:
            yield f"{name}: operation {sequence} has changed the spec {count} times"


def _new_generations(history: History) -> Iterator[Version]:
    """Each change of a spec but a deployment's first; a deletion counts as one for Kubernetes alone."""
    for versions in _by_uid(history).values():
        for before, after in pairwise(versions):
            if after.generation != before.generation and not after.is_leaving:
                yield after


def _what_succeeded_is_so(history: History) -> Iterator[str]:
    """Rule 6: SUCCEEDED is what was seen by then, and no more. When that was is known while all clocks are right."""
    has_skew = _has_skew(history)
    for name, at_rest in history.jobs.items():
        versions = history.versions_of(name)
        for each in at_rest.operations:
            shows, until = SUCCEEDED.get(each["kind"]), math.inf if has_skew else _ended_at(each) + SEEN_LATE_SECONDS
            seen = (v for v in versions if v.at <= until)
            if each["state"] == "SUCCEEDED" and shows and not any(shows(v.whole, each) for v in seen):
                yield f"{name}: {each['kind']} {each['sequence']} SUCCEEDED, and no version of it shows so by then"


def _has_skew(history: History) -> bool:
    return any(each.what.startswith("skew ") for each in history.struck)


def _ended_at(operation: Mapping[str, Any]) -> float:
    ended = operation.get("ended_at")
    return datetime.fromisoformat(ended).timestamp() if ended else math.inf


def _flink(whole: Mapping[str, Any]) -> str:
    return str(((whole.get("status") or {}).get("jobStatus") or {}).get("state"))


SUCCEEDED: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], bool]] = {
    "SCALE": lambda whole, asked: (
        asked["arguments"]["parallelism"]
        in (overrides_in(whole["spec"]).values() or [whole["spec"]["job"]["parallelism"]])
    ),
    "RESTART": lambda whole, asked: whole["spec"].get("restartNonce") == asked["sequence"],
    "SUSPEND": lambda whole, _: whole["spec"]["job"].get("state") == "suspended",
    "UPGRADE": lambda whole, asked: (
        list(whole["spec"]["job"].get("args") or [])[-len(asked["arguments"]["request"]["args"]) :]
        == list(asked["arguments"]["request"]["args"])
    ),
    "ADOPT": lambda whole, asked: Version(0, False, whole).made_by == asked["id"],
    "RELEASE": lambda whole, _: not Version(0, False, whole).is_ours,
    "SUBMIT": lambda whole, asked: (
        Version(0, False, whole).made_by == asked["id"] and _flink(whole) in ("RUNNING", "FINISHED")
    ),
}
"""What some version of the deployment shows, where an operation of this kind has SUCCEEDED."""


def _what_is_scaled_runs_so(history: History) -> Iterator[str]:
    """Rule 6: a SCALE has SUCCEEDED when the job ran at that, or has run to its end; what it did in place changed
    nothing else of the deployment."""
    for name, at_rest in history.jobs.items():
        scales = [each for each in at_rest.operations if (each["kind"], each["state"]) == ("SCALE", "SUCCEEDED")]
        for each in scales if history.ran else ():
            if FINISHED not in each["reason"] and not _ran_at(history, name, each):
                yield f"{name}: SCALE {each['sequence']} SUCCEEDED, and it never ran at {each['arguments']}"
        in_place = {each["sequence"] for each in scales if each["reason"].startswith(IN_PLACE)}
        for before, after in _pairs_of(history, name):
            is_its = before.sequence < after.sequence and after.sequence in in_place
            if is_its and not is_of_overrides(before.spec, after.spec):
                yield f"{name}: SCALE {after.sequence} in place has changed more than parallelism"


def _ran_at(history: History, name: str, scale: Mapping[str, Any]) -> bool:
    """Whether the job ran at what was asked for, between that and its end. When either was is known while all clocks
    are right."""
    asked = (each.at for each in history.asks if operation_id("default", each.key) == scale["id"])
    since, until = min(asked, default=0.0), math.inf if _has_skew(history) else _ended_at(scale) + SEEN_LATE_SECONDS
    ran = sorted((each["at"], each["runs_at"][FOLLOWS]) for each in history.ran if each["name"] == name)
    ends = [at for at, _ in ran[1:]] + [math.inf]
    wanted = scale["arguments"]["parallelism"]
    return any(n == wanted and at <= until and end >= since for (at, n), end in zip(ran, ends, strict=True))


def _what_was_scaled_last_runs_so(history: History) -> Iterator[str]:
    """At rest a job that runs does so at what a SCALE gave it last, whatever has restarted it since, where nobody has
    laid hands on it."""
    touched = {each.job_id for each in history.touches}
    for name, at_rest in history.jobs.items():
        truth, live = at_rest.truth or {}, at_rest.live
        given = [each for each in at_rest.operations if each["kind"] in GIVES_PARALLELISM and _had_its_turn(each)]
        newest = max(given, key=lambda each: each["sequence"], default=None)
        is_ours = live is not None and Version(0, False, live).is_ours and name not in touched
        if newest is None or not is_ours or truth.get("stage") != Stage.RUNNING or not truth.get("runs_at"):
            continue
        wanted = newest["arguments"].get("parallelism")
        if (newest["kind"], newest["state"]) == ("SCALE", "SUCCEEDED") and truth["runs_at"][FOLLOWS] != wanted:
            yield f"{name}: SCALE {newest['sequence']} gave it {wanted}, and it runs at {truth['runs_at'][FOLLOWS]}"


def _had_its_turn(operation: Mapping[str, Any]) -> bool:
    return operation["state"] not in ("SUPERSEDED", "CANCELLED")


def _nothing_is_resurrected(history: History) -> Iterator[str]:
    """Rule 4: what was stopped last is not there, unless somebody has made it again since."""
    for name, at_rest in history.jobs.items():
        done = [each for each in at_rest.operations if each["state"] == "SUCCEEDED" and each["kind"] != "UNDELETE"]
        newest = max(done, key=lambda each: each["sequence"], default=None)
        if newest is None or newest["kind"] not in ENDS_THE_RUN or at_rest.live is None:
            continue
        live = Version(0, False, at_rest.live)
        if live.is_ours and live.sequence <= newest["sequence"] and not _is_made_after(history, live.uid, newest):
            yield f"{name}: {newest['kind']} {newest['sequence']} SUCCEEDED, and a deployment is there"


def _is_made_after(history: History, uid: str, operation: Mapping[str, Any]) -> bool:
    """Whether somebody has made this deployment when the operation had had its last look. With clocks that are off
    nobody knows when that was: then since it was asked for."""
    touch = history.made_by_hand(uid)
    asked = (each.at for each in history.asks if operation_id("default", each.key) == operation["id"])
    looked = min(asked, default=0.0) if _has_skew(history) else _ended_at(operation) - LAST_LOOK_SECONDS
    return touch is not None and touch.until >= looked


def _no_state_is_dropped(history: History) -> Iterator[str]:
    """Rule 4: where a deployment goes, the state that it had is on record, but by force, or where it was somebody's
    hand that has deleted this one."""
    specs = {each.uid: each.whole["spec"] for each in history.versions}
    for gone in history.gone:
        name, latest = gone["name"], gone["latest"]
        at_rest = history.jobs.get(name)
        if latest is None or at_rest is None or history.deleted_by_hand(gone["uid"]) is not None:
            continue
        kept = {latest} | ({gone["kept"]} if gone["stage"] == Stage.SUSPENDED else set())
        known = {*at_rest.savepoints, specs.get(gone["uid"], {}).get("job", {}).get("initialSavepointPath")}
        if not kept & known and not any(each["arguments"].get("force") for each in at_rest.operations):
            yield f"{name} went at {gone['stage']} with {latest}, which is on no record"


def _no_failure_without_one(history: History) -> Iterator[str]:
    """A call that fails changes no phase: FAILED is what the operator, or a JobManager, has shown, and REJECTED for the
    cluster's sake what a write was told."""
    for name, at_rest in history.jobs.items():
        shown = any(_shows_failure(each.whole) for each in history.versions_of(name))
        refused = any(each.told in REFUSALS and name in f"{each.path} {each.sent}" for each in history.writes)
        for each in at_rest.transitions:
            is_api = each["to"] == Phase.REJECTED and "Kubernetes API" in each["reason"]
            if (each["to"] == Phase.FAILED and not shown) or (is_api and not refused):
                yield f"{name} was {each['to']} ({each['reason']}), and nothing of it ever was"


def _shows_failure(whole: Mapping[str, Any]) -> bool:
    status = whole.get("status") or {}
    said = (status.get("lifecycleState"), status.get("jobManagerDeploymentStatus"), _flink(whole))
    return "FAILED" in said or "ERROR" in said


def _history_has_no_hole(history: History) -> Iterator[str]:
    """Rule 7: transitions are numbered without a gap, each begins where the one before ended, and they lead to what
    the job shows."""
    for name, at_rest in history.jobs.items():
        found = sorted(at_rest.transitions, key=lambda each: each["number"])
        if [each["number"] for each in found] != list(range(1, len(found) + 1)):
            yield f"{name} has the transitions {[each['number'] for each in found]}"
        breaks = [after["number"] for before, after in pairwise(found) if before["to"] != after["from"]]
        if breaks or (found and found[-1]["to"] != at_rest.job["status"]):
            yield f"{name}: its history does not lead to {at_rest.job['status']}: {breaks}"


def _the_record_says_what_is(history: History) -> Iterator[str]:
    """At rest a job's phase is that of its deployment."""
    for name, at_rest in history.jobs.items():
        phase, live = Phase(at_rest.job["status"]), at_rest.live
        has_one = live is not None and Version(0, False, live).is_ours
        if not has_one and phase not in (*SETTLED, Phase.REQUESTED):
            yield f"{name}: nothing is there, and its phase is {phase}"
        if has_one and not _is_shown(at_rest, phase):
            yield f"{name}: it is {at_rest.truth['stage'] if at_rest.truth else 'new'}, and its phase is {phase}"


def _is_shown(at_rest: AtRest, phase: Phase) -> bool:
    if at_rest.truth is None or phase in (Phase.REJECTED, Phase.RELEASED, Phase.DELETED):
        return True
    return phase in SHOWN.get(Stage(at_rest.truth["stage"]), {phase})


def _no_call_is_endless(history: History) -> Iterator[str]:
    """Rule 5: whatever is down, who asks is answered."""
    for ask in history.asks:
        if ask.longest_seconds > LONGEST_ANSWER_SECONDS:
            yield f"{ask.kind} {ask.key} was answered after {ask.longest_seconds:.0f} s"


def _no_deadline_passes_early(history: History) -> Iterator[str]:
    """Rule 6: a deadline is time that was spent, whatever the clocks say; they may be apart once."""
    over = max((each.at for each in history.versions), default=0.0) + AT_REST_SECONDS
    for ask in history.asks:
        found = history.by_key.get(ask.key, {})
        is_late = found.get("state") == "FAILED" and DEADLINE in found["reason"]
        if is_late and over - ask.at < found["deadline_seconds"] - LONGEST_LOOK_SECONDS:
            yield f"{ask.kind} {ask.key} FAILED {over - ask.at:.0f} s after it was asked for: {found['reason']}"


def _by_uid(history: History) -> dict[str, list[Version]]:
    found: dict[str, list[Version]] = defaultdict(list)
    for version in history.versions:
        found[version.uid].append(version)
    return found


def _kept_state_is_there(history: History) -> Iterator[str]:
    """Rule 4: a savepoint that is on record can be started from."""
    for path in history.missing:
        yield f"{path} is on record, and nothing is there"


def _what_starts_is_right(history: History) -> Iterator[str]:
    """Rules 2 and 4, where no operator sees to them: a native job starts from the state that there is, with its own
    configuration, and beside nothing of the one before."""
    yield from history.wrong


RULES: Mapping[str, Rule] = {
    "everything comes to rest": _all_came_to_rest,
    "nothing is lost": _nothing_is_lost,
    "one key is one operation": _one_key_is_one_operation,
    "operations take effect in their order": _operations_are_in_their_order,
    "each has its turn": _each_has_its_turn,
    "the fence never goes back": _the_fence_never_goes_back,
    "what is nobody's is left alone": _nobodys_is_left_alone,
    "marks are put once": _marks_are_put_once,
    "one operation makes one deployment": _one_operation_makes_one_deployment,
    "one operation changes the spec once": _one_operation_changes_once,
    "what succeeded is so": _what_succeeded_is_so,
    "what is scaled runs so": _what_is_scaled_runs_so,
    "what was scaled last runs so": _what_was_scaled_last_runs_so,
    "nothing is resurrected": _nothing_is_resurrected,
    "no state is dropped": _no_state_is_dropped,
    "kept state is there": _kept_state_is_there,
    "what starts is right": _what_starts_is_right,
    "no failure without one": _no_failure_without_one,
    "the history has no hole": _history_has_no_hole,
    "the record says what is": _the_record_says_what_is,
    "no call is endless": _no_call_is_endless,
    "no deadline passes early": _no_deadline_passes_early,
}
