"""`python -m worker [--queues flink.operations,flink.executions] [--threads 8]`: one worker of a threads pool."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Collection
from functools import partial

from headrace import health, logs, task_names
from headrace.adapters import prometheus
from headrace.domain.runtime_reports import Process
from headrace.errors import ConfigurationError
from headrace.health import Signs
from headrace.settings import Settings

OF_WORKERS = (task_names.OPERATIONS_QUEUE, task_names.EXECUTIONS_QUEUE)
"""What a worker takes in turns where nothing else is said."""

PART_OF = {
    task_names.OPERATIONS_QUEUE: Process.WORKER,
    task_names.EXECUTIONS_QUEUE: Process.WORKER,
    task_names.SYNC_QUEUE: Process.SYNC,
    task_names.LAUNCHES_QUEUE: Process.LAUNCHER,
}
"""The part in running jobs that comes with a queue."""


def main() -> int:
    """Runs until SIGTERM. 1 with one line where settings are wrong or the port of /metrics is taken."""
    parser = argparse.ArgumentParser(prog="worker", description=__doc__)
    parser.add_argument("--queues", default=",".join(OF_WORKERS), help="with commas")
    parser.add_argument("--threads", type=int, default=0, help="default: HEADRACE_WORKER_THREADS, 1 for sync alone")
    arguments = parser.parse_args()
    try:
        from worker import reporting
        from worker.app import app, services, settings

        check_queues(arguments.queues, settings())
        services()  # a wrong setting ends the process here, and no task later
        process = process_of(arguments.queues)
        logs.configure(settings(), process)
        prometheus.serve(settings().metrics_host, settings().metrics_port)
        logs.say_start(settings(), process)
        app.signs = signs(process)
        reporting.begin(partial(services().report_runtimes.of, parts_of(arguments.queues)))
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 1
    threads = arguments.threads or (1 if process == "sync" else settings().worker_threads)
    name = f"{process}-{os.getpid()}@{socket.gethostname()}"
    app.worker_main(
        [
            "worker",
            "--pool=threads",
            f"--concurrency={threads}",
            f"--queues={arguments.queues}",
            f"--hostname={name}",
            f"--loglevel={settings().log_level}",
            "--without-mingle",
            "--without-gossip",
            "--task-events",
        ]
    )
    return 0


def process_of(queues: str) -> str:
    """What a worker of these queues is called: one that takes a single kind of work by that."""
    return {task_names.SYNC_QUEUE: "sync", task_names.LAUNCHES_QUEUE: "launcher"}.get(queues, "worker")


def parts_of(queues: str) -> Collection[Process]:
    """The parts in running jobs that a worker of these queues has."""
    return {PART_OF[queue] for queue in queues.split(",") if queue in PART_OF}


def check_queues(queues: str, given: Settings) -> None:
    """Raises ConfigurationError where a queue is taken for which this worker lacks what it takes."""
    if task_names.LAUNCHES_QUEUE in queues.split(",") and given.flink_home is None:
        raise ConfigurationError(f"FLINK_HOME: {task_names.LAUNCHES_QUEUE} is for workers that have a Flink there")


def signs(process: str) -> Signs:
    """Those of this process, whose looks at its servers have begun."""
    from headrace import bootstrap
    from worker.app import services, settings

    given = Signs(settings().health_folder, process)
    given.look(health.MONGODB, services().store.ping)
    given.look(health.REDIS, bootstrap.redis_of(settings()).ping)
    return given


if __name__ == "__main__":
    raise SystemExit(main())
