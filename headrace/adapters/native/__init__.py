"""Flink's own native mode: Deployments that are started by Flink's command line, and looked after by Headrace."""

from headrace.adapters.native.launcher import Launcher
from headrace.adapters.native.runtime import NativeRuntime, connect

__all__ = ["Launcher", "NativeRuntime", "connect"]
