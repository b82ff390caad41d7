"""A store that counts what its writes bring about: operations that are accepted, move on and end, phases entered.

Every writer of a job's document passes here, and only what holds is counted, once: the core counts nothing itself.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, cast

from headrace import metrics
from headrace.domain.document import JobDocument
from headrace.domain.jobs import JobKey, Phase
from headrace.domain.operations import KINDS, Operation, State
from headrace.domain.operations.operation import OPEN
from headrace.ports import Store


def counted(store: Store) -> Store:
    """The store, counting."""
    for kind in KINDS:
        for state in State:
            if state not in OPEN:
                metrics.OPERATIONS.labels(kind, state)  # from 0 on: the first one is an increase too
    for phase in Phase:
        metrics.PHASES.labels(phase)
    return cast(Store, _Counting(store))


class _Counting:
    """All but the three calls that write documents is the store's own."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def write(self, before: JobDocument, after: JobDocument) -> JobDocument:
        """See ports.Store."""
        stored = self._store.write(before, after)
        _count(before, after)
        return stored

    def write_all(self, changed: Sequence[tuple[JobDocument, JobDocument]]) -> Sequence[JobKey]:
        """See ports.Store."""
        lost = self._store.write_all(changed)
        for before, after in changed:
            if after.key not in lost:
                _count(before, after)
        return lost

    def add_documents(self, documents: Sequence[JobDocument]) -> Collection[JobKey]:
        """See ports.Store."""
        stored = self._store.add_documents(documents)
        for each in documents:
            if each.key in stored:
                _count(replace(each, open_operations=(), ended=(), history=()), each)
        return stored


def _count(before: JobDocument, after: JobDocument) -> None:
    """What `after` has more than `before`. A document that was lost and is made again counts anew."""
    known = {each.id: each for each in (*before.open_operations, *before.ended)}
    had_ended = {each.id for each in before.ended}
    for operation in (*after.open_operations, *after.ended):
        was = known.get(operation.id)
        if was is None:
            metrics.ACCEPTED.labels(operation.kind, operation.source.via).inc()
        elif operation.id not in had_ended and (operation.step != was.step or not operation.is_open):
            metrics.STEP_SECONDS.labels(was.kind, was.step).observe(_seconds(was, operation))
        if not operation.is_open and operation.id not in had_ended:
            _count_end(operation)
    for change in after.history:
        if change.number > before.job.transition_count:
            metrics.PHASES.labels(change.to_phase).inc()


def _count_end(operation: Operation) -> None:
    metrics.OPERATIONS.labels(operation.kind, operation.state).inc()
    took = (operation.updated_at - operation.accepted_at).total_seconds()
    metrics.OPERATION_SECONDS.labels(operation.kind).observe(max(took, 0.0))


def _seconds(was: Operation, now: Operation) -> float:
    """By the clocks of two processes, which may be apart."""
    return max((now.updated_at - was.updated_at).total_seconds(), 0.0)
