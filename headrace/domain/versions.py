"""The versions of a job: what its log says was ever applied of it, by whom, when and why, and what changed. Pure.

Nothing of this is stored: the log has it all. Knows no store, and no secret: a request holds what was sealed, and shows
programs by their hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headrace.domain.job_requests import without_programs
from headrace.domain.jobs import scaled
from headrace.domain.operations import KINDS, KindName, Operation, Source, State

OF_ONE_VALUE = frozenset({"env", "flink_configuration", "labels", "parameters"})
"""Fields of a request whose keys are their users' own: what stands under one of them is one value."""


@dataclass(frozen=True)
class Difference:
    """One place of a request, by keys from its root, that two versions have otherwise; None stands for nothing."""

    path: tuple[str, ...]
    before: Any
    after: Any


@dataclass(frozen=True, kw_only=True)
class Version:
    """What held of a job from the end of one operation to that of the next that changed it.

    `number` counts them from 1, over all runs. `made_by` has the whole request and the template, `scale` the SCALE that
    came over it since; `request` is what that comes to, without programs' texts. One that was adopted has none.
    """

    number: int
    run: int | None
    operation_id: str
    kind: KindName
    source: Source
    accepted_at: datetime
    at: datetime | None
    state: State
    why: str
    request: Mapping[str, Any]
    differences: Sequence[Difference]
    made_by: str
    scale: tuple[int | None, int | None] = (None, None)


def versions(log: Iterable[Operation]) -> Iterator[Version]:
    """The versions in a job's log (all of it, in its order), oldest first. What never came to hold is none."""
    before: Version | None = None
    for operation in log:
        if not held(operation) or (before is None and operation.kind is KindName.SCALE):
            continue
        before = _scaled(before, operation) if operation.kind is KindName.SCALE else _renewed(before, operation)
        yield before


def held(operation: Operation) -> bool:
    """Whether what it asked of the spec was applied, be it that it failed afterwards. A log of before `holds` says so
    of what succeeded alone."""
    if not _renders(operation) and operation.kind not in (KindName.SCALE, KindName.ADOPT):
        return False
    if operation.kind in KINDS and KINDS[operation.kind].begins_a_run and operation.deployment_uid is not None:
        return not operation.is_open
    return operation.holds or operation.state is State.SUCCEEDED


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """The places in which two requests differ, in the order of their names."""
    old, new = (dict(_leaves(request)) for request in (before, after))
    paths = sorted({*old, *new})
    return [Difference(path, old.get(path), new.get(path)) for path in paths if old.get(path) != new.get(path)]


def _renders(operation: Operation) -> bool:
    return isinstance(operation.arguments.get("request"), Mapping)


def _renewed(before: Version | None, operation: Operation) -> Version:
    return _next(before, operation, without_programs(operation.arguments.get("request") or {}), operation.id)


def _scaled(before: Version | None, operation: Operation) -> Version:
    assert before is not None  # noqa: S101 - the caller has looked
    scale = (operation.arguments.get("parallelism"), operation.arguments.get("task_managers"))
    return _next(before, operation, scaled(before.request, *scale), before.made_by, scale)


def _next(
    before: Version | None,
    operation: Operation,
    request: Mapping[str, Any],
    made_by: str,
    scale: tuple[int | None, int | None] = (None, None),
) -> Version:
    return Version(
        number=before.number + 1 if before is not None else 1,
        run=operation.run,
        operation_id=operation.id,
        kind=operation.kind,
        source=operation.source,
        accepted_at=operation.accepted_at,
        at=operation.ended_at,
        state=operation.state,
        why=_why(operation),
        request=request,
        differences=differences(before.request, request) if before is not None else [],
        made_by=made_by,
        scale=scale,
    )


def _why(operation: Operation) -> str:
    """What was asked for, in a few words."""
    asked = operation.arguments
    match operation.kind:
        case KindName.SCALE if asked.get("task_managers") is not None:
            return f"scaled to {asked['task_managers']} TaskManagers"
        case KindName.SCALE:
            return f"scaled to parallelism {asked.get('parallelism')}"
        case KindName.ADOPT:
            return f"adopted deployment {asked.get('deployment')} as it was found"
        case KindName.ROLLBACK if asked.get("to") is None:
            return f"rolled back to the last stable spec, version {asked.get('version')}"
        case KindName.ROLLBACK:
            return f"rolled back to version {asked['to']}"
        case _:
            return f"{operation.kind.lower()} of {_template(asked)}"


def _template(asked: Mapping[str, Any]) -> str:
    if asked.get("template_id") is None:
        return "a whole request"
    return f"template {asked['template_id']}, version {asked.get('template_version')}"


def _leaves(request: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in request.items():
        at = (*path, str(key))
        if isinstance(value, Mapping) and not (path and path[0] in OF_ONE_VALUE):
            yield from _leaves(value, at)
        elif value is not None:
            yield at, value
