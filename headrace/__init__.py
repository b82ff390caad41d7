"""Headrace: the control plane for Apache Flink jobs."""
