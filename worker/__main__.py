"""`python -m worker [--queues flink.operations,flink.executions] [--threads 8]`: one worker of a threads pool."""

from __future__ import annotations

import argparse
import os
import socket
import sys

from headrace import logs, task_names
from headrace.errors import ConfigurationError

OF_WORKERS = (task_names.OPERATIONS_QUEUE, task_names.EXECUTIONS_QUEUE)
"""What a worker takes in turns where nothing else is said."""


def main() -> int:
    """Runs until SIGTERM. 1 with one line where settings are wrong."""
    parser = argparse.ArgumentParser(prog="worker", description=__doc__)
    parser.add_argument("--queues", default=",".join(OF_WORKERS), help="with commas")
    parser.add_argument("--threads", type=int, default=0, help="default: HEADRACE_WORKER_THREADS, 1 for sync alone")
    arguments = parser.parse_args()
    try:
        from worker.app import app, services, settings

        services()  # a wrong setting ends the process here, and no task later
        process = "sync" if arguments.queues == task_names.SYNC_QUEUE else "worker"
        logs.configure(settings(), process)
        logs.say_start(settings(), process)
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


if __name__ == "__main__":
    raise SystemExit(main())
