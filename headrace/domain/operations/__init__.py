"""What can be asked of a job: one module a kind of operation, and the list of them here. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.domain.operations.adopt import Adopt, AdoptArguments
from headrace.domain.operations.delete import Delete
from headrace.domain.operations.kind import Arguments, Expected, Kind
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
from headrace.domain.operations.release import Release
from headrace.domain.operations.restart import Restart
from headrace.domain.operations.resume import Resume
from headrace.domain.operations.rollback import Rollback, RollbackArguments
from headrace.domain.operations.savepoint import Savepoint
from headrace.domain.operations.scale import Scale
from headrace.domain.operations.stop import Stop
from headrace.domain.operations.submit import LAST, Submit, SubmitArguments
from headrace.domain.operations.suspend import Suspend
from headrace.domain.operations.undelete import Undelete
from headrace.domain.operations.upgrade import Upgrade, UpgradeArguments

__all__ = [
    "DUE",
    "KINDS",
    "LAST",
    "AdoptArguments",
    "Arguments",
    "Expected",
    "Kind",
    "KindName",
    "Operation",
    "RollbackArguments",
    "Source",
    "State",
    "Step",
    "SubmitArguments",
    "UpgradeArguments",
    "hash_of",
    "operation_id",
]

ALL: tuple[Kind, ...] = (
    *(Submit(), Stop(), Scale(), Suspend(), Resume(), Restart(), Upgrade()),
    *(Delete(), Undelete()),
    Rollback(),
    Savepoint(),
    *(Adopt(), Release()),
)

KINDS: Mapping[KindName, Kind] = {kind.name: kind for kind in ALL}
