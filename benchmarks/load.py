"""Sends SUBMITs over HTTP and times the answers: `python -m benchmarks.load`. Knows nothing of ours.

With a rate, each request has its moment, whether or not the ones before it are answered, and is timed from that moment:
who is slow cannot hide it by being asked less. Without one, so many connections send one request after another.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Target:
    """Where to, and connections that are free."""

    host: str
    port: int
    path: str
    key: str
    body: dict[str, object]
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def submit(self) -> int:
        """One SUBMIT of a new job; the answer's status."""
        reader, writer = self.free.pop() if self.free else await asyncio.open_connection(self.host, self.port)
        body = json.dumps({"job_id": f"job-{uuid.uuid4().hex[:12]}", **self.body}).encode()
        writer.write(self._head(len(body)) + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        self.free.append((reader, writer))
        return int(head.split(b" ", 2)[1])

    def _head(self, length: int) -> bytes:
        lines = [f"POST {self.path} HTTP/1.1", f"Host: {self.host}", f"Authorization: Bearer {self.key}"]
        lines += ["Content-Type: application/json", f"Content-Length: {length}"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def at_a_rate(submit: Callable[[], Awaitable[int]], rate: float, seconds: float) -> tuple[list[float], list[int]]:
    """Seconds from the moment that each request had until its answer, and the answers' statuses."""
    begun = time.monotonic()

    async def one(moment: float) -> tuple[float, int]:
        await asyncio.sleep(max(0.0, moment - time.monotonic()))
        status = await submit()
        return time.monotonic() - moment, status

    done = await asyncio.gather(*(one(begun + number / rate) for number in range(int(rate * seconds))))
    return [took for took, _ in done], [status for _, status in done]


async def one_after_another(
    submit: Callable[[], Awaitable[int]], connections: int, seconds: float
) -> tuple[list[float], list[int]]:
    """The same where each connection sends its next request at its answer."""
    until, took, statuses = time.monotonic() + seconds, [], []

    async def one() -> None:
        while (begun := time.monotonic()) < until:
            statuses.append(await submit())
            took.append(time.monotonic() - begun)

    await asyncio.gather(*(one() for _ in range(connections)))
    return took, statuses


def main() -> int:
    """Prints what was measured as JSON; 1 where an answer was not 202."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load")
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--body", type=json.loads, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--connections", type=int, default=8)
    given = parser.parse_args()
    parts = urlsplit(given.url)
    target = Target(parts.hostname or "", parts.port or 80, parts.path, given.key, given.body)
    measure = at_a_rate(target.submit, given.rate, given.seconds) if given.rate else None
    begun = time.monotonic()
    took, statuses = asyncio.run(measure or one_after_another(target.submit, given.connections, given.seconds))
    print(json.dumps({"took": took, "seconds": time.monotonic() - begun, "statuses": sorted(set(statuses))}))
    return 0 if set(statuses) == {202} else 1


if __name__ == "__main__":
    sys.exit(main())
