"""Celery task and queue names: the wire contract with every producer. Knows nothing of ours but errors."""

from typing import Final

SUBMIT: Final = "flink.submit"
STOP: Final = "flink.stop"
SCALE: Final = "flink.scale"
EXECUTE: Final = "flink.execute"
SYNC_STATUS: Final = "flink.sync_status"
REDELIVER: Final = "flink.redeliver"
EXPLAIN_WAITS: Final = "flink.explain_waits"

ALL: Final = frozenset({SUBMIT, STOP, SCALE, EXECUTE, SYNC_STATUS, REDELIVER, EXPLAIN_WAITS})

OPERATIONS_QUEUE: Final = "flink.operations"
SYNC_QUEUE: Final = "flink.sync"
