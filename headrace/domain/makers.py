"""Who makes an object: one that a deployment's pods wait for, or the deployment. Pure: it goes by names, and knows no
server.

What Flink, its operator or Headrace make themselves is never asked of a person. Flink's names are those of its native
Kubernetes client (Constants, KubernetesLeaderElectionHaServices of flink-kubernetes 1.20 to 2.2), ours those of
headrace.domain.manifest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Maker(StrEnum):
    """Who has to make it."""

    FLINK = "Flink"
    HEADRACE = "Headrace"
    USER = "user"


_MADE: dict[Maker, dict[str, str]] = {
    Maker.FLINK: {
        "configmap": r"(?:flink-config|pod-template|hadoop-config|kerberos-krb5conf)-{0}"
        r"|{0}-(?:cluster|[0-9a-f]{{32}})-config-map",
        "secret": r"kerberos-keytab-{0}",
        "service": r"{0}(?:-rest)?",
        "deployment": r"{0}",
    },
    Maker.HEADRACE: {
        # 8 digits: made by the releases before.
        "configmap": r"{0}-files-(?:[0-9a-f]{{8}}|[0-9a-f]{{16}})",
        "secret": r"{0}-env-(?:[0-9a-f]{{8}}|[0-9a-f]{{16}})",
    },
}


def maker_of(kind: str, name: str, deployment: str) -> Maker:
    """Who makes the object of this kind (in lower case, singular) and name for the FlinkDeployment `deployment`; a
    person, where nobody else does."""
    for maker, names in _MADE.items():
        pattern = names.get(kind, "").format(re.escape(deployment))
        if deployment and pattern and re.fullmatch(pattern, name):
            return maker
    return Maker.USER


KEEPERS = {
    "helm": "Helm",
    "argocd": "Argo CD",
    "kustomize-controller": "Flux",
    "flux": "Flux",
    "terraform": "Terraform",
    "hashicorp": "Terraform",
    "pulumi": "Pulumi",
}
"""Tools that write what they made again, by what their names in managedFields, labels and annotations begin with."""

_MARKS = {
    "meta.helm.sh/release-name": "Helm",
    "helm.toolkit.fluxcd.io/name": "Flux",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "argocd.argoproj.io/instance": "Argo CD",
}
"""Labels and annotations that such tools leave."""


def keeper_of(metadata: Mapping[str, Any]) -> str:
    """Who made an object and may write it again: its owner, or a tool by its marks; empty where nobody is known to."""
    for owner in metadata.get("ownerReferences") or ():
        return f"{owner.get('kind')} {owner.get('name')}"
    marks = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    found = next((who for mark, who in _MARKS.items() if mark in marks), "")
    if found:
        return found
    names = [str(marks.get("app.kubernetes.io/managed-by") or "")]
    names += [str(each.get("manager") or "") for each in metadata.get("managedFields") or ()]
    said = (who for name in names for mark, who in KEEPERS.items() if name.lower().startswith(mark))
    return next(said, "")
