"""kubectl as a test uses it: against one cluster, with a cache of its own, and nothing of who runs the test."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.missing import missing

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "k8s-deploy"


def kubectl_path() -> str:
    """Where it is; skips the test where there is none, fails it if no test may skip."""
    return shutil.which("kubectl") or missing("there is no kubectl on the PATH; install it (dl.k8s.io)")


@dataclass(frozen=True)
class Kubectl:
    """kubectl with one kubeconfig; its home is a folder of the test."""

    kubeconfig: Path
    home: Path

    @property
    def env(self) -> dict[str, str]:
        """What a script that calls kubectl is run with."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), "KUBECONFIG": str(self.kubeconfig)}

    def tried(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        argv = [kubectl_path(), *arguments]
        return subprocess.run(
            argv, env=self.env, input=given, capture_output=True, text=True, timeout=240, check=False, cwd=ROOT
        )

    def said(self, *arguments: str, given: str | None = None) -> str:
        """What it printed; fails the test where it did not succeed."""
        done = self.tried(*arguments, given=given)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}\n{done.stderr}"
        return done.stdout

    def versions(self, kinds: str) -> dict[str, str]:
        """Each object of these kinds by its uid, with its version; without those that the server makes for itself."""
        found = yaml.safe_load(self.said("get", kinds, "--all-namespaces", "--output", "yaml"))["items"]
        theirs = {"kube-system", "kube-public", "kube-node-lease", "default"}
        told = [each["metadata"] for each in found]
        told = [each for each in told if each.get("namespace") not in theirs and each["name"] not in theirs]
        return {each["uid"]: each["resourceVersion"] for each in told}

    def applied(self, folder: Path) -> None:
        """Applies a kustomization, as the deploy scripts do: a Job's pod cannot be changed, so the last one goes."""
        for each in kustomized(folder):
            if each["kind"] == "Namespace":
                self.said("apply", "-f", "-", given=yaml.safe_dump(each))
                self.said("delete", "job", "migrate", "--ignore-not-found", "-n", each["metadata"]["name"])
        self.said("apply", "--validate=strict", "-k", str(folder))


@cache
def kustomized(folder: Path) -> list[dict[str, Any]]:
    """The objects of a kustomization."""
    argv = [kubectl_path(), "kustomize", str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def overlays() -> list[Path]:
    """Each way to install our processes."""
    return sorted(each.parent for each in (DEPLOY / "overlays").glob("*/kustomization.yaml"))


def flink_namespaces() -> list[Path]:
    """Each namespace for jobs."""
    return sorted(each.parent for each in (DEPLOY / "flink").glob("flink-*/kustomization.yaml"))
