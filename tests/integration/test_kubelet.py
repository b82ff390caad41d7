"""The laptop's kubelet against either API: what keeps a pod of native mode from running shows as on a cluster, and a
pod is there exactly as long as it is asked for. No Flink is started here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from local.flink_operator.events import Events
from local.kubelet.kubelet import Kubelet
from local.kubelet.objects import Objects
from tests.e2e.operator_alone import CORE, Api, Resource, running_api
from tests.support.patience import wait_for

DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
NAME = "orders"
LABELS = {"app": NAME, "component": "jobmanager", "type": "flink-native-kubernetes"}
IMAGE = "headrace/flink:2.2.1"
HELD: Resource = {"name": "hold", "image": IMAGE, "command": ["python3", "-c", "import time; time.sleep(600)"]}
"""An init container that keeps Flink from being started."""


@pytest.fixture(scope="module", params=["small", "real"])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(request.param, tmp_path_factory.mktemp("kubelet") / "api") as api:
        yield api


@contextmanager
def running_kubelet(api: Api, folder: Path) -> Iterator[None]:
    stopping = threading.Event()
    objects = Objects(api.kubeconfig, "default")
    events = Events(objects)
    kubelet = Kubelet(objects, events, folder, stopping)

    def look() -> None:
        while not stopping.wait(0.2):
            kubelet.look()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
        kubelet.wait(60)
        events.close()
        objects.close()


@pytest.fixture
def kubelet(api: Api, tmp_path: Path) -> Iterator[None]:
    """And at its end nothing is left of what the test has made."""
    with running_kubelet(api, tmp_path):
        yield
        for each in api.get(DEPLOYMENTS)["items"]:
            api.delete_at(f"{DEPLOYMENTS}/{each['metadata']['name']}")
        wait_for("the pods to go", lambda: not api.pods(NAME))


def create(api: Api, **pod: Any) -> Resource:
    """The Deployment with a pod of this spec."""
    main = {"name": "flink-main-container", "image": IMAGE, **pod.pop("main", {})}
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [main], **pod}}
    spec = {"replicas": 1, "selector": {"matchLabels": LABELS}, "template": template}
    metadata = {"name": NAME, "labels": LABELS}
    api.create(DEPLOYMENTS, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})
    return api.get(f"{DEPLOYMENTS}/{NAME}")


def the_pod(api: Api) -> Resource | None:
    return next(iter(api.pods(NAME)), None)


def shown(api: Api, part: str, index: int = 0) -> Resource:
    """A container's status, or nothing."""
    statuses = ((the_pod(api) or {}).get("status") or {}).get(part) or []
    return statuses[index] if index < len(statuses) else {}


def waits_for(api: Api, reason: str, part: str = "containerStatuses", index: int = 0) -> Callable[[], Resource | None]:
    """The container's status once it waits for this."""

    def found() -> Resource | None:
        status = shown(api, part, index)
        return status if status.get("state", {}).get("waiting", {}).get("reason") == reason else None

    return found


def told(api: Api, reason: str) -> list[str]:
    """The messages of events about its pods."""
    names = {pod["metadata"]["name"] for pod in api.pods(NAME)}
    return [e["message"] for n in names for e in api.events(n) if e["reason"] == reason]


def owned_by(deployment: Resource, kind: str, name: str, **content: Any) -> Resource:
    metadata = deployment["metadata"]
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"], "uid": metadata["uid"]}
    labels = {"app": NAME, "type": "flink-native-kubernetes"}
    owned = {"name": name, "labels": labels, "ownerReferences": [owner]}
    return {"apiVersion": "v1", "kind": kind, "metadata": owned, **content}


@pytest.mark.usefixtures("kubelet")
def test_an_image_that_cannot_be_pulled_is_said_as_a_kubelet_says_it(api: Api) -> None:
    create(api, main={"image": "registry.invalid/flink:1"})
    status = wait_for("the pull to fail", waits_for(api, "ErrImagePull"))
    assert "lookup registry.invalid: no such host" in status["state"]["waiting"]["message"]
    wait_for("the next one to be waited for", waits_for(api, "ImagePullBackOff"))
    wait_for("the event", lambda: told(api, "Failed"))
    deployment = wait_for("its Deployment's", lambda: api.get(f"{DEPLOYMENTS}/{NAME}").get("status"))
    assert (deployment["replicas"], deployment["unavailableReplicas"]) == (1, 1)
    assert {c["type"]: c["status"] for c in deployment["conditions"]}["Available"] == "False"


@pytest.mark.usefixtures("kubelet")
def test_the_last_words_of_an_init_container_that_fails_are_in_the_pod(api: Api) -> None:
    script = "import sys; open(sys.argv[1], 'w').write('SCRIPT_URL answered 404'); print('seen'); sys.exit(3)"
    fetch = {"name": "fetch", "image": IMAGE, "command": ["python3", "-c", script, "/dev/termination-log"]}
    create(api, initContainers=[fetch])
    status = wait_for("it to crash", waits_for(api, "CrashLoopBackOff", "initContainerStatuses"))
    ended = status["lastState"]["terminated"]
    assert (ended["exitCode"], ended["message"]) == (3, "SCRIPT_URL answered 404")
    wait_for("it to be tried again", lambda: shown(api, "initContainerStatuses").get("restartCount"))
    assert shown(api, "containerStatuses")["state"]["waiting"]["reason"] == "PodInitializing"
    pod = the_pod(api)
    assert pod is not None
    wait_for("its log", lambda: api.log(pod["metadata"]["name"], container="fetch") in (None, "seen\n"))


@pytest.mark.usefixtures("kubelet")
def test_a_pod_waits_for_its_volumes_and_its_secrets(api: Api) -> None:
    volume = {"name": "conf", "configMap": {"name": "flink-config-orders"}}
    secret = {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "passwords", "key": "orders"}}}
    deployment = create(api, volumes=[volume], main={"env": [secret]})
    wait_for("the mount to fail", lambda: told(api, "FailedMount"))
    assert 'configmap "flink-config-orders" not found' in told(api, "FailedMount")[0]
    api.create(f"{CORE}/configmaps", owned_by(deployment, "ConfigMap", "flink-config-orders", data={"config.yaml": ""}))
    status = wait_for("the Secret to be missed", waits_for(api, "CreateContainerConfigError"))
    assert status["state"]["waiting"]["message"] == 'secret "passwords" not found'


@pytest.mark.usefixtures("kubelet")
def test_the_pod_is_there_as_long_as_it_is_asked_for(api: Api) -> None:
    create(api, initContainers=[HELD])
    wait_for("the first to run", lambda: "running" in shown(api, "initContainerStatuses").get("state", {}))
    first = the_pod(api)
    assert first is not None
    api.patch_at(f"{DEPLOYMENTS}/{NAME}", {"spec": {"replicas": 0}})
    wait_for("it to go", lambda: not api.pods(NAME))
    wait_for("its status to say so", lambda: not api.get(f"{DEPLOYMENTS}/{NAME}")["status"].get("replicas"))

    api.patch_at(f"{DEPLOYMENTS}/{NAME}", {"spec": {"replicas": 1}})
    second = wait_for("another", lambda: the_pod(api))
    assert uid(second) != uid(first)
    changed = [{**HELD, "name": "hold-still"}]
    api.patch_at(f"{DEPLOYMENTS}/{NAME}", {"spec": {"template": {"spec": {"initContainers": changed}}}})
    third = wait_for("one of the new template alone", lambda: alone(api, besides=second))
    assert third["spec"]["initContainers"][0]["name"] == "hold-still"

    api.delete_at(f"{CORE}/pods/{third['metadata']['name']}")
    wait_for("another alone in its place", lambda: alone(api, besides=third))


def alone(api: Api, besides: Resource) -> Resource | None:
    """The one pod that there is; None where that is this one, which may go on its own a while after the other came."""
    found = api.pods(NAME)
    return found[0] if len(found) == 1 and uid(found[0]) != uid(besides) else None


def uid(pod: Resource) -> str:
    return str(pod["metadata"]["uid"])


def left(api: Api) -> set[str]:
    """What carries the label, by kind and name."""
    kinds = ("pods", "services", "configmaps")
    found = {kind: api.get(f"{CORE}/{kind}?labelSelector=app%3D{NAME}")["items"] for kind in kinds}
    return {f"{kind}/{each['metadata']['name']}" for kind, items in found.items() for each in items}


@pytest.mark.parametrize("is_looked_after", [True, False], ids=["while it looks", "while it is down"])
def test_what_a_deployment_owns_goes_with_it_and_nothing_else(api: Api, tmp_path: Path, is_looked_after: bool) -> None:
    with running_kubelet(api, tmp_path):
        deployment = create(api, initContainers=[HELD])
        ports = [{"name": "rest", "port": 8081}]
        service = owned_by(deployment, "Service", f"{NAME}-rest", spec={"ports": ports, "selector": LABELS})
        api.create(f"{CORE}/services", service)
        api.create(f"{CORE}/configmaps", owned_by(deployment, "ConfigMap", f"flink-config-{NAME}"))
        ha = owned_by(deployment, "ConfigMap", f"{NAME}-cluster-config-map")
        del ha["metadata"]["ownerReferences"]
        api.create(f"{CORE}/configmaps", ha)
        wait_for("it to run", lambda: "running" in shown(api, "initContainerStatuses").get("state", {}))
        if is_looked_after:
            api.delete_at(f"{DEPLOYMENTS}/{NAME}")
            wait_for("all that it owns to go", lambda: left(api) == {f"configmaps/{NAME}-cluster-config-map"})
    if not is_looked_after:
        api.delete_at(f"{DEPLOYMENTS}/{NAME}")
        with running_kubelet(api, tmp_path):
            wait_for("all that it owned to go", lambda: left(api) == {f"configmaps/{NAME}-cluster-config-map"})
    api.delete_at(f"{CORE}/configmaps/{NAME}-cluster-config-map")


@pytest.mark.usefixtures("kubelet")
def test_one_that_is_deleted_in_the_foreground_goes_with_its_pod(api: Api) -> None:
    create(api, initContainers=[HELD])
    wait_for("it to run", lambda: "running" in shown(api, "initContainerStatuses").get("state", {}))
    api.delete_at(f"{DEPLOYMENTS}/{NAME}?propagationPolicy=Foreground")
    wait_for("it to go", lambda: not api.get(DEPLOYMENTS)["items"])
    wait_for("its pod to go", lambda: not api.pods(NAME))
