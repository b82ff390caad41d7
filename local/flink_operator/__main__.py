"""`python -m local.flink_operator`: looks after every FlinkDeployment of a namespace until SIGTERM, and after every
Deployment of Flink's native mode: what is a cluster's part in that, runs beside the operator here."""

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
from local.flink_operator.rest_gateway import RestGateway
from local.kubelet.kubelet import Kubelet
from local.kubelet.objects import Objects

LIST_SECONDS = 1.0


def main() -> int:
    """A thread a deployment; at the end every Flink process is stopped and every deployment stays."""
    parser = argparse.ArgumentParser(prog="local.flink_operator", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--rest-port", type=int, help="serve every JobManager's REST at /{namespace}/{name} here")
    arguments = parser.parse_args()
    logger.remove()
    logger.add(
        sys.stderr, format="{time:YYYY-MM-DDTHH:mm:ss.SSSZ} {level: <7} flink-operator {message}", diagnose=False
    )
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    kube = Objects(arguments.kubeconfig, arguments.namespace)
    operate(kube, arguments.data_dir.resolve(), stopping, arguments.rest_port)
    kube.close()
    return 0


def operate(kube: Objects, data: Path, stopping: threading.Event, rest_port: int | None = None) -> None:
    """Until told to stop; returns once every process that it started is gone."""
    data.mkdir(parents=True, exist_ok=True)
    running: dict[str, Reconciler] = {}
    events = Events(kube)
    kubelet = Kubelet(kube, events, data, stopping)
    gateway = _gateway(rest_port, kube.namespace, running, kubelet) if rest_port else None
    try:
        _look_after_all(kube, events, data, stopping, running, kubelet)
    finally:
        if gateway is not None:
            gateway.stop()


def _gateway(port: int, served: str, running: dict[str, Reconciler], kubelet: Kubelet) -> RestGateway:
    def port_of(namespace: str, name: str) -> int | None:
        if namespace != served:
            return None
        found = (thread.rest_port for thread in list(running.values()) if thread.deployment_name == name)
        return next((port for port in found if port is not None), None) or kubelet.rest_port(name)

    gateway = RestGateway(port, port_of)
    gateway.start()
    return gateway


def _look_after_all(
    kube: Kube,
    events: Events,
    data: Path,
    stopping: threading.Event,
    running: dict[str, Reconciler],
    kubelet: Kubelet,
) -> None:
    while not stopping.is_set():
        try:
            for deployment in kube.deployments():
                uid = deployment["metadata"]["uid"]
                if uid not in running or not running[uid].is_alive():
                    running[uid] = Reconciler(kube, events, deployment, data, stopping)
                    running[uid].start()
        except KubeError as error:
            logger.warning("{}", error)
        for uid in [uid for uid, thread in running.items() if not thread.is_alive()]:
            del running[uid]
        kubelet.look()
        stopping.wait(LIST_SECONDS)
    for thread in running.values():
        thread.join(60)
    kubelet.wait(60)
    events.close()


if __name__ == "__main__":
    raise SystemExit(main())
