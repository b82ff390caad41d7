"""`./run bench operations`: SUBMITs that one worker carries out in a second, against bare Celery tasks that make the
same calls to an API server that takes 20 ms.

Each round's messages are in Redis before the worker may take one. `bare, on record` also writes down what it was asked,
durably, before and after: the least that a request which must not be lost costs on this store.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Mapping, Sequence

from celery import Celery

from benchmarks import bare_worker
from benchmarks.installation import API_SECONDS, SUBMIT, Installation, running
from benchmarks.rounds import HEADRACE, Comparison, Goal, Round, in_turns, options, told
from headrace import task_names
from headrace.adapters.celery_queue import producer, redis
from headrace.domain.operations import KindName
from local.process import LocalProcess
from tests.support.patience import wait_for
from tests.support.servers import frozen

BARE, ON_RECORD = "bare", "bare, on record"
RATE = "operations/s"
GOALS = (Goal(RATE, BARE, least=0.9),)

Send = Callable[[Celery, str], None]


def main(argv: Sequence[str]) -> int:
    """Measures and says; exit code 0."""
    parser = options("operations", __doc__)
    parser.add_argument("--operations", type=int, default=200, help="in a round")
    parser.add_argument("--threads", type=int, default=8)
    asked = parser.parse_args(argv)
    with running() as where:
        return told(measured(where, asked.rounds, asked.operations, asked.threads), asked)


def measured(where: Installation, rounds: int, count: int, threads: int) -> Comparison:
    """Both workers are up all the time; only the one that is measured has work."""
    ours = where.worker(threads)
    with producer(redis(where.redis_url, 10)) as app:
        ours_of = side(where, ours, app, submit, count, (task_names.OPERATIONS_QUEUE, task_names.EXECUTIONS_QUEUE))
        ours_of(0)
        where.keep_manifest()
        theirs = where.bare_worker(threads)
        sides: Mapping[str, Round] = {
            HEADRACE: ours_of,
            BARE: side(where, theirs, app, bare(bare_worker.CREATE), count, ("bare",)),
            ON_RECORD: side(where, theirs, app, bare(bare_worker.CREATE_ON_RECORD), count, ("bare",)),
        }
        title = f"{RATE} of one worker, {threads} threads, {count} SUBMITs a round, an API of {API_SECONDS * 1e3:g} ms"
        return in_turns(title, sides, GOALS, rounds)


def side(
    where: Installation, worker: LocalProcess, app: Celery, send: Send, count: int, queues: Sequence[str]
) -> Round:
    """A round of a side: so many messages, sent while its worker is frozen, until each deployment was created."""

    def measure(number: int) -> Mapping[str, float]:
        where.forget()
        assert worker.pid is not None
        with frozen(worker.pid):
            for _ in range(count):
                send(app, f"job-{uuid.uuid4().hex[:12]}")
        wait_for("all deployments to be created", lambda: len(where.seen().created_at) == count)
        where.await_quiet(*queues)
        seen = where.seen()
        calls = {f"{method} calls an operation": made / count for method, made in sorted(seen.calls.items())}
        return {RATE: rate(list(seen.created_at.values())), **calls}

    return measure


def rate(created_at: Sequence[float]) -> float:
    """Creates in a second, from the first to the last: the worker's first steps are not counted, nor its first one."""
    return (len(created_at) - 1) / (max(created_at) - min(created_at))


def submit(app: Celery, name: str) -> None:
    """A SUBMIT as any producer sends it."""
    task, queue = task_names.accepting(KindName.SUBMIT), task_names.OPERATIONS_QUEUE
    app.send_task(task, kwargs={"job_id": name, **SUBMIT}, queue=queue, ignore_result=True)


def bare(task: str) -> Send:
    """The bare task of this name."""
    return lambda app, name: app.send_task(task, args=[name], queue="bare", ignore_result=True) and None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
