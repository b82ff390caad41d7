"""Celery task and queue names: the wire contract with every producer. Knows nothing of ours but errors."""

from typing import Final

EXECUTE: Final = "flink.execute"
LAUNCH: Final = "flink.launch"
SYNC_STATUS: Final = "flink.sync_status"
REDELIVER: Final = "flink.redeliver"
EXPLAIN_WAITS: Final = "flink.explain_waits"
PRUNE: Final = "flink.prune"
TAKE_SAVEPOINTS: Final = "flink.take_savepoints"


def accepting(kind: str) -> str:
    """The task that accepts an operation of this kind: `flink.submit` for SUBMIT."""
    return f"flink.{kind.lower()}"


WITHOUT_A_KIND: Final = frozenset({EXECUTE, LAUNCH, SYNC_STATUS, REDELIVER, EXPLAIN_WAITS, PRUNE, TAKE_SAVEPOINTS})

OPERATIONS_QUEUE: Final = "flink.operations"
"""What is asked for: the queue that producers send to."""

EXECUTIONS_QUEUE: Final = "flink.executions"
"""Wake-ups for what is accepted, apart: however many there are, what is asked for does not wait behind them."""

SYNC_QUEUE: Final = "flink.sync"

LAUNCHES_QUEUE: Final = "flink.launches"
"""What needs Flink's command line: for workers that have it, a few at a time, since each takes a JVM for seconds."""

QUEUES: Final = (OPERATIONS_QUEUE, EXECUTIONS_QUEUE, LAUNCHES_QUEUE, SYNC_QUEUE)
