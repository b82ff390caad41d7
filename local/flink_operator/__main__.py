"""`python -m local.flink_operator`: looks after every FlinkDeployment of a namespace until SIGTERM."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from loguru import logger

from local.flink_operator.events import Events
from local.flink_operator.kube import Kube, KubeError
from local.flink_operator.reconciler import Reconciler

LIST_SECONDS = 1.0


def main() -> int:
    """A thread a deployment; at the end every Flink process is stopped and every deployment stays."""
    parser = argparse.ArgumentParser(prog="local.flink_operator", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--data-dir", type=Path, required=True)
    arguments = parser.parse_args()
    logger.remove()
    logger.add(
        sys.stderr, format="{time:YYYY-MM-DDTHH:mm:ss.SSSZ} {level: <7} flink-operator {message}", diagnose=False
    )
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    operate(Kube(arguments.kubeconfig, arguments.namespace), arguments.data_dir.resolve(), stopping)
    return 0


def operate(kube: Kube, data: Path, stopping: threading.Event) -> None:
    """Until told to stop; returns once every process that it started is gone."""
    data.mkdir(parents=True, exist_ok=True)
    running: dict[str, Reconciler] = {}
    events = Events(kube)
    while not stopping.is_set():
        try:
            for deployment in kube.deployments():
                uid = deployment["metadata"]["uid"]
                if uid not in running or not running[uid].is_alive():
                    running[uid] = Reconciler(kube, events, deployment, data, stopping)
                    running[uid].start()
        except KubeError as error:
            logger.warning("{}", error)
        running = {uid: thread for uid, thread in running.items() if thread.is_alive()}
        stopping.wait(LIST_SECONDS)
    for thread in running.values():
        thread.join(60)
    events.close()


if __name__ == "__main__":
    raise SystemExit(main())
