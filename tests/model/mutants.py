"""Faults put into the code on purpose, one at a time: a model that does not find each of them proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any
from unittest.mock import patch

from headrace.adapters.flink_rest.clusters import ClusterRest
from headrace.domain import status
from headrace.domain.diff import Change
from headrace.domain.document import JobDocument
from headrace.domain.operations import Operation, State
from headrace.domain.runtimes import operator
from headrace.domain.runtimes.native import acts, arguments
from headrace.domain.runtimes.operator import adopted, changed, new_run, released, sights
from headrace.domain.runtimes.plan import End
from headrace.domain.state_on_hand import NeverHadAny, Unknown
from headrace.errors import Unavailable
from headrace.ports import Lease, Scope
from headrace.services import observe
from headrace.services.sync import Sync
from headrace.testing import InMemoryStore
from tests.model.promises import WatchedStore

Patches = Sequence[Any]


def no_adoption() -> Patches:
    """A deployment that no record knows of stays nobody's."""
    return [
        patch.object(observe, "taken_over", lambda document, live: document),
        *(patch.object(each, "operation_of", lambda live: None) for each in (operator, new_run)),
    ]


def old_sight_written() -> Patches:
    """What was seen before is written over what was seen after."""
    return [patch.object(Sync, "_is_older", lambda self, document, live: False)]


def success_without_looking() -> Patches:
    """What was written counts as done."""
    done = [End(State.SUCCEEDED, "it was written", holds=True)]
    return [
        patch.object(changed, "holds_what_it_asserts", lambda live, operation: True),
        *(patch.object(each, "awaited", lambda case, live: done) for each in (changed, new_run)),
    ]


def unknown_state_taken_as_none() -> Patches:
    """Nobody can say what state there is: then there is none."""
    real = sights.state_on_hand  # type: ignore[attr-defined]

    def state_on_hand(*arguments: Any) -> Any:
        state = real(*arguments)
        return NeverHadAny() if isinstance(state, Unknown) else state

    return [patch.object(sights, "state_on_hand", state_on_hand)]


def unseen_run_taken_as_none() -> Patches:
    """Only a job that was seen RUNNING can have made state."""
    return [patch.object(status, "_may_have_run", lambda case, _: case.flink.state == "RUNNING")]


def ended_never_written_out() -> Patches:
    """How an operation ended is never brought into the log."""
    return [patch.object(InMemoryStore, "write_outcomes", lambda self, operations: None)]


def adoption_that_changes_the_spec() -> Patches:
    """What is adopted is scaled at once."""
    real = adopted.claiming  # type: ignore[attr-defined]

    def claiming(*arguments: Any) -> Any:
        return [*real(*arguments), Change(("spec", "job", "parallelism"), 9)]

    return [patch.object(adopted, "claiming", claiming)]


def release_without_writing() -> Patches:
    """The record is let go, and our annotations stay."""
    return [patch.object(released, "letting_go", lambda whole: [])]


def lease_by_own_clock() -> Patches:
    """Whether a lease has run out is asked of the clock of who wants it."""
    real = WatchedStore.server_now

    def server_now(self: WatchedStore) -> datetime:
        actor: Any = self._world.actor
        return actor.services.clock.now() if actor is not None else real(self)  # type: ignore[no-any-return]

    def take_lease(self: WatchedStore, name: str, holder: str, seconds: float) -> Lease | None:
        with patch.object(WatchedStore, "server_now", server_now):
            return taken(self, name, holder, seconds)

    taken = InMemoryStore.take_lease
    return [patch.object(InMemoryStore, "take_lease", take_lease)]


def scope_left_out() -> Patches:
    """What is due is asked of the whole database."""

    def due(self: InMemoryStore, scope: Scope, at: datetime, limit: int, *, for_workers: bool) -> Sequence[JobDocument]:
        found = [d for d in self._documents.values() if d.is_for_workers == for_workers]
        return [d for d in found if d.due_at is not None and d.due_at <= at][:limit]

    return [patch.object(InMemoryStore, "due", due)]


def newest_first() -> Patches:
    """A job's newest operation has its turn before those that were accepted earlier."""

    def newest(self: JobDocument) -> Operation | None:
        return self.open_operations[-1] if self.open_operations else None

    return [patch.object(JobDocument, "oldest", property(newest))]


def stable_taken_for_rescaled() -> Patches:
    """A SCALE in place has succeeded where the operator says STABLE: no JobManager is asked."""
    return [patch.object(changed, "arrived", lambda case, live, effects: effects)]


def late_parallelism_stands() -> Patches:
    """What a JobManager was told by a worker that is late stands."""
    return [patch.object(acts, "_again", lambda wanted, done, shown: None)]


def lost_parallelism_noted_as_done() -> Patches:
    """What a JobManager did not answer to was taken by it, and it is not told again."""
    real = ClusterRest.rescale

    def rescale(self: ClusterRest, *arguments: Any) -> str:
        try:
            return real(self, *arguments)
        except Unavailable:
            return ""

    return [*late_parallelism_stands(), patch.object(ClusterRest, "rescale", rescale)]


def ends_not_kept() -> Patches:
    """Flink is left to forget that a job has ended: a JobManager that comes back runs its program again."""
    return [patch.object(arguments, "_results_kept", lambda given, name, job_id: {})]


MUTANTS: Mapping[str, Callable[[], Patches]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        no_adoption,
        old_sight_written,
        success_without_looking,
        unknown_state_taken_as_none,
        unseen_run_taken_as_none,
        ended_never_written_out,
        adoption_that_changes_the_spec,
        release_without_writing,
        lease_by_own_clock,
        scope_left_out,
        newest_first,
        stable_taken_for_rescaled,
        late_parallelism_stands,
        lost_parallelism_noted_as_done,
        ends_not_kept,
    )
}


@contextmanager
def mutated(name: str | None) -> Iterator[None]:
    """The code with this fault in it; None: as it is."""
    with ExitStack() as stack:
        for each in MUTANTS[name]() if name is not None else ():
            stack.enter_context(each)
        yield
