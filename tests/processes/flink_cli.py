"""What Flink's command line does with `run --target kubernetes-application`: it makes a cluster's objects, here those
that tests/processes/native.py reads. Run by a `bin/flink` of its own; the standard library alone, and no JVM.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

FROM = "--fromSavepoint"


def main(words: list[str]) -> None:
    """Makes what this configuration asks for."""
    conf = json.loads((Path(os.environ["FLINK_CONF_DIR"]) / "config.yaml").read_text())
    kube = json.loads(Path(conf["kubernetes.config.file"]).read_text())
    name, namespace = conf["kubernetes.cluster-id"], conf["kubernetes.namespace"]
    start_from = words[words.index(FROM) + 1] if FROM in words else None
    labels = {"app": name, "type": "flink-native-kubernetes"}
    manager = {**labels, "component": "jobmanager"}
    kept = conf.get("job-result-store.delete-on-commit") == "false"
    told = json.dumps({"job": conf["$internal.pipeline.job-id"], "from": start_from, "kept": kept})
    container = {"name": "flink-main-container", "image": conf["kubernetes.container.image.ref"]}
    pod = {"metadata": {"labels": manager}, "spec": {"containers": [container]}}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"config.yaml": told}}
    service = {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 8081}], "selector": manager}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": manager},
        "spec": {"replicas": 1, "selector": {"matchLabels": manager}, "template": pod},
    }
    core = f"/api/v1/namespaces/{namespace}"
    made(kube, f"{core}/configmaps", {**config, "metadata": {"name": f"flink-config-{name}", "labels": labels}})
    made(kube, f"{core}/services", {**service, "metadata": {"name": f"{name}-rest", "labels": labels}})
    made(kube, f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment)


def made(kube: Any, path: str, body: Any) -> None:
    """One object."""
    url, token = kube["clusters"][0]["cluster"]["server"], kube["users"][0]["user"]["token"]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        answer.read()


if __name__ == "__main__":
    main(sys.argv[1:])
