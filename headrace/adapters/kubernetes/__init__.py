"""Kubernetes and the Flink Kubernetes Operator's resources: the only importer of `kubernetes`. Knows no use case."""

from headrace.adapters.kubernetes.runtime import OperatorRuntime, connect

__all__ = ["OperatorRuntime", "connect"]
