"""Prometheus metrics, named once. Knows nothing of ours."""

from prometheus_client import Counter, Histogram

TASKS = Counter("headrace_tasks_total", "Celery tasks that ended, by name and outcome.", ["name", "outcome"])
TASK_SECONDS = Histogram("headrace_task_seconds", "How long Celery tasks took.", ["name"])
ACCEPTED = Counter("headrace_accepted_total", "Operations accepted, by kind and way in.", ["kind", "via"])
REFUSED = Counter("headrace_refused_total", "Inputs that can never be used, by way in.", ["via"])
PASSED_BY = Counter(
    "headrace_events_passed_by_total", "Events that no trigger asked for anything on, by topic.", ["topic"]
)
UNFORESEEN = Counter("headrace_unforeseen_total", "Exceptions over an input that nobody foresaw, by way in.", ["via"])
UNOBSERVED = Counter("headrace_unobserved_total", "Times that one job could not be observed.")
WAITS = Counter("headrace_waits_total", "Times that an input had to wait for a server or for us, by way in.", ["via"])
REQUESTS = Counter("headrace_http_requests_total", "HTTP requests, by method and status.", ["method", "status"])
