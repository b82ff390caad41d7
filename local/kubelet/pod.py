"""One pod's life on this machine, from its first sight until it is gone: image, volumes, init containers, its process,
and that process again.

What fails is tried again after longer and longer waits, and stands in the pod's status meanwhile, as a kubelet does it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from loguru import logger

from local.flink_operator import pods
from local.flink_operator.distribution import Place, end_what_is_left
from local.flink_operator.environment import NotThere, command, fill, variables
from local.flink_operator.events import Events
from local.flink_operator.kube import KubeError, Resource
from local.flink_operator.mapping import Container, Filled, PodView, view_of
from local.kubelet import pod_statuses, programs
from local.kubelet.images import pull_error
from local.kubelet.objects import Objects
from local.kubelet.pod_statuses import LOOPBACK, ContainerSeen, PodSeen
from local.kubelet.programs import Machine
from local.process import LocalProcess, dying_with_us

LOOK_SECONDS = 0.2
API_SECONDS = 1.0
INIT_SECONDS = 600.0
FIRST_BACK_OFF_SECONDS = 10.0
LONGEST_BACK_OFF_SECONDS = 300.0
STEADY_SECONDS = 600.0
"""A container that ran so long is started again at once."""

T = TypeVar("T")


class _Over(Exception):
    """The pod is gone, or the kubelet is."""


class PodRunner(threading.Thread):
    """A thread for one pod (its uid). Its processes are started by it, and die with it."""

    def __init__(self, objects: Objects, events: Events, pod: Resource, data: Path, machine: Machine) -> None:
        self.name_of_pod: str = pod["metadata"]["name"]
        super().__init__(name=f"pod-{self.name_of_pod}", daemon=True)
        self._objects = objects
        self._events = events
        self._pod = pod
        self._machine = machine
        self._folder = data / f"{self.name_of_pod}-{pod['metadata']['uid'][:8]}"
        self.place = Place(self._folder)
        status = pod.get("status") or {}
        was_seen = "containerStatuses" in status
        spec = pod["spec"]
        self._seen: PodSeen = pod_statuses.seen_before(spec, status) if was_seen else pod_statuses.seen_first(spec)
        self._logs: dict[str, Resource] = json.loads(self._annotations().get(pods.LOGS_ANNOTATION, "{}"))
        self._is_over = threading.Event()
        self._process: LocalProcess | None = None

    def end(self) -> None:
        """It is to end, without waiting for it."""
        self._is_over.set()

    def run(self) -> None:
        """Until its pod has ended, or it is told to."""
        end_what_is_left(self._folder)
        try:
            self._live()
        except _Over:
            pass
        finally:
            if self._process is not None:
                self._process.stop()

    def _live(self) -> None:
        if self._starts_once and self._seen.main.has_run:
            return self._has_ended(self._seen.main)
        self._asked(lambda: self._objects.hold(self._pod))
        view = view_of(self._pod["spec"], self._folder, self._fields())
        self._image_is_there()
        self._volumes_are_there(view)
        for container in view.init:
            if not self._init_is_done(container):
                return None
        while True:
            ended = self._run_main(view.main)
            if self._starts_once:
                return self._has_ended(ended)
            self._back_off(ended)

    @property
    def _starts_once(self) -> bool:
        return bool(self._pod["spec"].get("restartPolicy") == "Never")

    @property
    def _is_job_manager(self) -> bool:
        return bool(self._pod["metadata"]["labels"].get("component") == "jobmanager")

    def _image_is_there(self) -> None:
        """Every container has to have one; which of them is pulled first a kubelet decides by their order."""
        containers = [*self._seen.inits, self._seen.main]
        for container in containers:
            tries = 0
            while (words := pull_error(container.image)) is not None:
                self._show_container(container.waits("ErrImagePull", words))
                self._warn("Failed", f'Failed to pull image "{container.image}": {words}')
                self._pause(FIRST_BACK_OFF_SECONDS / 2)
                self._show_container(container.waits("ImagePullBackOff", f'Back-off pulling image "{container.image}"'))
                self._pause(_waits(tries := tries + 1))

    def _volumes_are_there(self, view: PodView) -> None:
        """What is not there yet is waited for, and told."""
        for volume in view.filled:
            while not self._is_filled(volume):
                source = f'{volume.kind.removesuffix("s")} "{volume.name}"'
                words = f'MountVolume.SetUp failed for volume "{volume.folder.name}" : {source} not found'
                self._show(self._seen)
                self._warn("FailedMount", words)
                self._pause(API_SECONDS)
        self._show(replace(self._seen, has_volumes=True))

    def _is_filled(self, volume: Filled) -> bool:
        return self._asked(lambda: fill(volume, self._objects.data_of))

    def _init_is_done(self, container: Container) -> bool:
        """Whether the next may be started; False where a pod that is started once is over."""
        tries = 0
        while True:
            ended = self._run_init(container)
            if ended.has_succeeded:
                return True
            if self._starts_once:
                self._show(replace(self._seen, ended="Failed"))
                return False
            self._crashes(ended, _waits(tries := tries + 1))

    def _run_init(self, container: Container) -> ContainerSeen:
        said, log = Path(container.paths["/dev/termination-log"]), self._log(container.name)
        said.parent.mkdir(parents=True, exist_ok=True)
        said.write_text("")
        env = self._variables(container)
        self._begins(container.name, log)
        with log.open("ab") as output:
            process = subprocess.Popen(
                dying_with_us(command(container, env), signal.SIGKILL),
                env=env,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )
        code = self._exit_code(process)
        self._show_container(self._container(container.name).ends(code, said.read_text()))
        return self._container(container.name)

    def _exit_code(self, process: subprocess.Popen[bytes]) -> int:
        """Once it has ended: by itself, by the time that it is given, or with its pod."""
        until = time.monotonic() + INIT_SECONDS
        try:
            while process.poll() is None and time.monotonic() < until:
                self._pause(LOOK_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        return _as_shown(process.returncode)

    def _run_main(self, container: Container) -> ContainerSeen:
        """Until it has ended."""
        env = self._variables(container)
        build = programs.job_manager if self._is_job_manager else programs.task_manager
        self._process = build(self.name_of_pod, self.place, container, env, self._machine)
        self._begins(container.name, self._process.log, self._process)
        while self._process.exit_code is None:
            self._pause(LOOK_SECONDS)
        code = _as_shown(self._process.exit_code)
        self._process.stop()
        self._show_container(self._seen.main.ends(code))
        return self._seen.main

    def _back_off(self, ended: ContainerSeen) -> None:
        """A container is started again at once, and then after longer and longer waits."""
        ran = time.monotonic() - (self._process.started_at if self._process else 0.0)
        if ended.restarts and ran < STEADY_SECONDS:
            self._crashes(ended, _waits(ended.restarts))

    def _crashes(self, container: ContainerSeen, seconds: float) -> None:
        pod = f"{self.name_of_pod}_{self._objects.namespace}({self._pod['metadata']['uid']})"
        words = f"back-off {seconds:.0f}s restarting failed container={container.name} pod={pod}"
        self._show_container(container.waits("CrashLoopBackOff", words))
        self._warn("BackOff", f"Back-off restarting failed container {container.name} in pod {pod}")
        self._pause(seconds)

    def _has_ended(self, main: ContainerSeen) -> None:
        self._show(replace(self._seen, main=main, ended="Succeeded" if main.has_succeeded else "Failed"))

    def _variables(self, container: Container) -> dict[str, str]:
        """Once all that they name is there."""
        while True:
            try:
                return self._asked(lambda: variables(container, self._objects.data_of))
            except NotThere as missing:
                seen = self._container(container.name)
                self._show_container(seen.waits("CreateContainerConfigError", str(missing)))
                self._pause(FIRST_BACK_OFF_SECONDS)

    def _begins(self, name: str, log: Path, process: LocalProcess | None = None) -> None:
        """A container is started: its process, where it has one here, and where its output begins."""
        log.parent.mkdir(parents=True, exist_ok=True)
        start, before = pods.launch(log).log_start, self._logs.get(name)
        self._logs[name] = {"path": str(log), "start": start, "previous": before["start"] if before else None}
        if process is not None:
            process.start()
        pid = {pods.PID_ANNOTATION: str(process.pid)} if process is not None else {}
        told = {pods.LOGS_ANNOTATION: json.dumps(self._logs), **pid}
        self._asked(lambda: self._objects.annotate("pods", self._pod, told))
        self._show_container(self._container(name).runs())
        self._events.normal(self._pod, "kubelet", "Started", f"Started container {name}")

    def _container(self, name: str) -> ContainerSeen:
        return next(each for each in (self._seen.main, *self._seen.inits) if each.name == name)

    def _show_container(self, container: ContainerSeen) -> None:
        is_main = container.name == self._seen.main.name
        self._show(replace(self._seen, main=container) if is_main else self._seen.with_init(container))

    def _show(self, seen: PodSeen) -> None:
        self._seen = seen
        self._asked(lambda: self._objects.show_pod(self._pod, pod_statuses.status_of(seen)))

    def _asked(self, ask: Callable[[], T]) -> T:
        """What the API answers, once it does: nothing goes on without it."""
        while True:
            try:
                return ask()
            except KubeError as error:
                logger.warning("pod {}: {}", self.name_of_pod, error)
                self._pause(API_SECONDS)

    def _pause(self, seconds: float) -> None:
        if self._is_over.wait(seconds):
            raise _Over

    def _warn(self, reason: str, message: str) -> None:
        self._events.warning(self._pod, "kubelet", reason, message)

    def _log(self, name: str) -> Path:
        return self.place.logs / f"{name}.log"

    def _annotations(self) -> Mapping[str, str]:
        return self._pod["metadata"].get("annotations") or {}

    def _fields(self) -> dict[str, str]:
        """What a variable may name of its pod."""
        metadata = self._pod["metadata"]
        named = {"metadata.name": metadata["name"], "metadata.namespace": self._objects.namespace}
        places = dict.fromkeys(("status.podIP", "status.hostIP"), LOOPBACK)
        account = {"spec.serviceAccountName": self._pod["spec"].get("serviceAccountName", "")}
        return {**named, **places, **account, "metadata.uid": metadata["uid"], "spec.nodeName": "laptop"}


def _waits(tries: int) -> float:
    return float(min(FIRST_BACK_OFF_SECONDS * 2 ** (tries - 1), LONGEST_BACK_OFF_SECONDS))


def _as_shown(exit_code: int) -> int:
    """The exit code as a container's: one that a signal ended has 128 and the signal's number."""
    return exit_code if exit_code >= 0 else 128 - exit_code
