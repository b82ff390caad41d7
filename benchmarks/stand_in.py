"""An API server that takes 20 ms for each request: `python -m benchmarks.stand_in`. Knows nothing of ours.

It holds FlinkDeployments in memory and does with them what an API server does at a GET and a create; everything else
that is posted is answered and forgotten. Of each deployment it says when its create was answered, and of each method
how often it was asked, so that both sides of a benchmark can be seen to make the same calls.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import yaml

GROUP = "/apis/flink.apache.org/v1beta1"
CRD_FILE = Path(__file__).parent.parent / "local" / "crds" / "flinkdeployments.flink.apache.org-v1.yml"
CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/flinkdeployments.flink.apache.org"
SEEN = "/benchmark/seen"
NOT_FOUND = {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"}
REASONS = {200: "OK", 201: "Created", 404: "Not Found", 409: "Conflict"}

Answered = tuple[int, bytes]


class Deployments:
    """What was created, when, and what was asked."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}
        self._created_at: dict[str, float] = {}
        self._calls: Counter[str] = Counter()
        self._last: Any = None
        self._crd = orjson.dumps(yaml.load(CRD_FILE.read_text(), Loader=yaml.CSafeLoader))

    def answer(self, method: str, path: str, body: bytes) -> Answered:
        """The answer to a request. Its moment counts as the moment of a create."""
        path = path.partition("?")[0]
        self._calls[method] += 1
        if path == CRD_PATH:
            return 200, self._crd
        if method == "POST" and path.endswith("/flinkdeployments"):
            return self._create(orjson.loads(body))
        if method == "POST":
            return 201, body
        found = self._kept.get(path.rpartition("/")[2])
        return (200, found) if found is not None else (404, orjson.dumps(NOT_FOUND))

    def seen(self, method: str) -> Answered:
        """What was seen since it was asked to forget with a DELETE."""
        if method == "DELETE":
            self._kept.clear()
            self._created_at.clear()
            self._calls.clear()
        content = {"created_at": self._created_at, "calls": self._calls, "last": self._last}
        return 200, orjson.dumps(content)

    def _create(self, manifest: dict[str, Any]) -> Answered:
        name = manifest["metadata"]["name"]
        if name in self._kept:
            return 409, orjson.dumps({**NOT_FOUND, "reason": "AlreadyExists", "code": 409})
        self._last = manifest
        given = {"uid": str(uuid.uuid4()), "generation": 1, "resourceVersion": str(len(self._kept) + 1)}
        self._kept[name] = orjson.dumps({**manifest, "metadata": {**manifest["metadata"], **given}})
        self._created_at[name] = time.time()
        return 201, self._kept[name]


async def serve(port: int, delay_seconds: float) -> None:
    """Until it is cancelled."""
    deployments = Deployments()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
                body = await reader.readexactly(_length(head))
                if path == SEEN:
                    writer.write(_message(*deployments.seen(method)))
                    continue
                await asyncio.sleep(delay_seconds)
                writer.write(_message(*deployments.answer(method, path, body)))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def _message(status: int, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def kubeconfig_of(port: int) -> str:
    """The text of a kubeconfig for it."""
    named = {"cluster": {"server": f"http://127.0.0.1:{port}"}, "name": "stand-in"}
    user = {"name": "anyone", "user": {"token": "none"}}
    context = {"context": {"cluster": "stand-in", "user": "anyone"}, "name": "stand-in"}
    content = {"apiVersion": "v1", "kind": "Config", "clusters": [named], "users": [user], "contexts": [context]}
    return json.dumps({**content, "current-context": "stand-in"})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stand_in")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay-ms", type=float, default=20.0)
    given = parser.parse_args()
    asyncio.run(serve(given.port, given.delay_ms / 1000))
