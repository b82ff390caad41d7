"""Prometheus metrics, named once. Knows nothing of ours.

Counters and histograms are a process' own, and counted where it happens. A Fact is the installation's: it is read from
the store and the queues when somebody looks. No label holds a job, a tenant or anything else that somebody may make up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

STEP_BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)
"""Seconds: from a write to a savepoint of a large job."""

ACCEPT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

TASKS = Counter("headrace_tasks_total", "Celery tasks that ended, by name and outcome.", ["name", "outcome"])
TASK_SECONDS = Histogram("headrace_task_seconds", "How long Celery tasks took.", ["name"])
BEAT_SENT = Counter("headrace_beat_sent_total", "Tasks that Beat sent, by name.", ["name"])

ACCEPTED = Counter("headrace_accepted_total", "Operations accepted, by kind and way in.", ["kind", "via"])
ACCEPT_SECONDS = Histogram(
    "headrace_accept_seconds",
    "How long accepting took, from the request to the answer, by way in.",
    ["via"],
    buckets=ACCEPT_BUCKETS,
)
OPERATIONS = Counter("headrace_operations_total", "Operations that ended, by kind and end.", ["kind", "state"])
OPERATION_SECONDS = Histogram(
    "headrace_operation_seconds",
    "How long operations took from accepted to ended, by kind.",
    ["kind"],
    buckets=STEP_BUCKETS,
)
STEP_SECONDS = Histogram(
    "headrace_operation_step_seconds",
    "How long operations stood at a step, by kind and step. BEGIN is the time from accepted to the first write.",
    ["kind", "step"],
    buckets=STEP_BUCKETS,
)
PHASES = Counter("headrace_phases_entered_total", "Changes of jobs' phases, by the phase entered.", ["phase"])

WATCH_HEARD = Gauge(
    "headrace_watch_heard_timestamp_seconds",
    "When the watch of FlinkDeployments last brought something or came to its end; 0: never in this process.",
)
UNOBSERVED = Counter("headrace_unobserved_total", "Times that one job could not be observed.")

RECORDS = Counter("headrace_records_total", "Kafka records that are done, by outcome.", ["outcome"])
DEAD_LETTERS = Counter("headrace_dead_letters_total", "Dead letters that the broker took.")
CONSUMER_LAG = Gauge(
    "headrace_consumer_lag_records",
    "Records of a partition of this consumer's that are not done yet.",
    ["topic", "partition"],
)
PASSED_BY = Counter(
    "headrace_events_passed_by_total", "Events that no trigger asked for anything on, by topic.", ["topic"]
)

REFUSED = Counter("headrace_refused_total", "Inputs that can never be used, by way in.", ["via"])
UNFORESEEN = Counter("headrace_unforeseen_total", "Exceptions over an input that nobody foresaw, by way in.", ["via"])
WAITS = Counter("headrace_waits_total", "Times that an input had to wait for a server or for us, by way in.", ["via"])
ERRORS = Counter("headrace_errors_total", "Errors that a request, a task or a record met, by class.", ["via", "error"])
SERVER_ERRORS = Counter(
    "headrace_server_errors_total", "Times that a server did not answer or said no, by class.", ["server", "error"]
)

REQUESTS = Counter("headrace_http_requests_total", "HTTP requests, by method and status.", ["method", "status"])
RPCS = Counter("headrace_grpc_requests_total", "gRPC calls, by name and code.", ["rpc", "code"])


class Fact(NamedTuple):
    """A fact of the installation, as it is named in /metrics."""

    name: str
    description: str
    label: str = ""
    kind: Literal["gauge", "counter"] = "gauge"

    def family(self, values: Mapping[str, float]) -> Metric:
        """It with these values, by its label; without a label under the empty one."""
        labels = [self.label] if self.label else []
        made = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = made(self.name, self.description, labels=labels)
        for value, number in values.items():
            family.add_metric([value] if self.label else [], number)
        return family


STORE_UP = Fact("headrace_store_up", "Whether MongoDB answered: without, no other fact of the records is told.")
REDIS_UP = Fact("headrace_redis_up", "Whether Redis answered: without, no queue's length is told.")
JOBS = Fact("headrace_jobs", "Jobs on record, by phase.", "phase")
OPEN_OPERATIONS = Fact("headrace_open_operations", "Operations that have not ended, by kind.", "kind")
OLDEST_OPEN = Fact("headrace_open_operation_oldest_seconds", "The age of the oldest open operation, by kind.", "kind")
UNTOUCHED = Fact("headrace_untouched_operations", "Operations whose turn it is, and that no worker has looked at.")
SYNCED = Fact("headrace_synced_timestamp_seconds", "When the sync last knew every job to be as it is stored; 0: never.")
LEASE_HELD = Fact("headrace_lease_held", "Whether a process holds the lease just now.", "lease")
LEASE_TURNS = Fact("headrace_lease_turns", "Times that the lease was taken: its token.", "lease", "counter")
QUEUE_LENGTH = Fact("headrace_queue_length", "Messages that no worker has taken yet, by queue.", "queue")

FACTS = (
    *(STORE_UP, REDIS_UP, JOBS, OPEN_OPERATIONS, OLDEST_OPEN, UNTOUCHED),
    *(SYNCED, LEASE_HELD, LEASE_TURNS, QUEUE_LENGTH),
)
