"""Who makes an object that a deployment's pods wait for. Pure: it goes by names, and knows no server.

What Flink, its operator or Headrace make themselves is never asked of a person. Flink's names are those of its native
Kubernetes client (Constants, KubernetesLeaderElectionHaServices of flink-kubernetes 1.20 to 2.2), ours those of
headrace.domain.manifest.
"""

from __future__ import annotations

import re
from enum import StrEnum


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
