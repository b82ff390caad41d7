"""`./run bench latency`: from the moment that a SUBMIT was accepted over HTTP until its deployment was created, against
a bare Celery task that makes the same calls, from the moment it was sent.

One after another, on idle processes. The API server takes 20 ms a call on both sides; what is left without its calls is
what each side itself takes.
"""

from __future__ import annotations

import statistics
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import httpx
from celery import Celery

from benchmarks import accepting, bare_worker
from benchmarks.accepting import KEY, Service
from benchmarks.installation import API_SECONDS, SUBMIT, Installation, running
from benchmarks.rounds import HEADRACE, Comparison, Goal, Round, in_turns, options, told
from headrace import task_names
from headrace.adapters.celery_queue import producer, redis
from tests.support.patience import wait_for

BARE = "bare"
WHOLE, OWN = "ms to the create, median", "ms of it without the API"
GOALS = (Goal(WHOLE, BARE, most=2.0), Goal(OWN, BARE, most=2.0))
CALLS = 2
"""Of the API, one after the other until the create: whether it is there, and the create."""


def main(argv: Sequence[str]) -> int:
    """Measures and says; exit code 0."""
    parser = options("latency", __doc__)
    parser.add_argument("--operations", type=int, default=40, help="in a round")
    asked = parser.parse_args(argv)
    with running() as where:
        return told(measured(where, asked.rounds, asked.operations), asked)


def measured(where: Installation, rounds: int, count: int) -> Comparison:
    """All processes are up all the time."""
    service = accepting.headrace(where)
    where.worker()
    queues = (task_names.OPERATIONS_QUEUE, task_names.EXECUTIONS_QUEUE)
    with producer(redis(where.redis_url, 10)) as app, httpx.Client(trust_env=False, timeout=60) as client:
        ours = side(where, lambda name: accepted_at(client, service, name), count, queues)
        ours(0)
        where.keep_manifest()
        where.bare_worker()
        theirs = side(where, lambda name: sent_at(app, name), count, ("bare",))
        title = f"accepted to applied, {count} SUBMITs a round one after another, an API of {API_SECONDS * 1e3:g} ms"
        return in_turns(title, {HEADRACE: ours, BARE: theirs}, GOALS, rounds)


def side(where: Installation, begin: Callable[[str], float], count: int, queues: Sequence[str]) -> Round:
    """A round of a side: each operation begins when the one before is through."""

    def measure(number: int) -> Mapping[str, float]:
        where.forget()
        begun = {}
        for _ in range(count):
            name = f"job-{uuid.uuid4().hex[:12]}"
            begun[name] = begin(name)
            wait_for("the create", lambda: name in where.seen().created_at)  # noqa: B023 - called before the next one
            where.await_quiet(*queues)
        created = where.seen().created_at
        return figures([created[name] - at for name, at in begun.items()])

    return measure


def figures(seconds: Sequence[float]) -> Mapping[str, float]:
    """What is said of a round."""
    middle = statistics.median(seconds)
    return {WHOLE: middle * 1000, OWN: (middle - CALLS * API_SECONDS) * 1000}


def accepted_at(client: httpx.Client, service: Service, name: str) -> float:
    """The moment on the operation's record."""
    sent = {"job_id": name, **SUBMIT}
    answer = client.post(service.url, json=sent, headers={"Authorization": f"Bearer {KEY}"}).raise_for_status()
    return datetime.fromisoformat(answer.json()["operation"]["accepted_at"]).timestamp()


def sent_at(app: Celery, name: str) -> float:
    """The moment before it was sent."""
    now = time.time()
    app.send_task(bare_worker.CREATE, args=[name], queue="bare", ignore_result=True)
    return now


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
