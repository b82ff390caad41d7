"""What can be asked of a job: one module a kind of operation, and the list of them here. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.domain.operations.kind import Expected, Kind
from headrace.domain.operations.operation import (
    DUE,
    KindName,
    Operation,
    Source,
    State,
    Step,
    hash_of,
    operation_id,
)
from headrace.domain.operations.scale import Scale
from headrace.domain.operations.stop import Stop
from headrace.domain.operations.submit import Submit

__all__ = [
    "DUE",
    "KINDS",
    "Expected",
    "Kind",
    "KindName",
    "Operation",
    "Source",
    "State",
    "Step",
    "hash_of",
    "operation_id",
]

KINDS: Mapping[KindName, Kind] = {kind.name: kind for kind in (Submit(), Stop(), Scale())}
