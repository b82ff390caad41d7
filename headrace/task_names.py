"""Celery task and queue names: the wire contract with every producer. Knows the kinds of operation, and no Celery."""

from typing import Final

from headrace.domain.operations import KindName

EXECUTE: Final = "flink.execute"
SYNC_STATUS: Final = "flink.sync_status"
REDELIVER: Final = "flink.redeliver"
EXPLAIN_WAITS: Final = "flink.explain_waits"


def accepting(kind: KindName) -> str:
    """The task that accepts an operation of this kind: `flink.submit`, `flink.stop` and so on."""
    return f"flink.{kind.lower()}"


ALL: Final = frozenset({*map(accepting, KindName), EXECUTE, SYNC_STATUS, REDELIVER, EXPLAIN_WAITS})

OPERATIONS_QUEUE: Final = "flink.operations"
SYNC_QUEUE: Final = "flink.sync"
