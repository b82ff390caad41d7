"""A small Kubernetes API for laptop mode and tests: what a Flink job needs, with the real one's semantics.

It schedules nothing and runs nothing; it must not know the operator, Flink or the product that talks to it.
"""

from local.kubernetes_api.faults import Fault
from local.kubernetes_api.server import LocalKubernetesApi

__all__ = ["Fault", "LocalKubernetesApi"]
