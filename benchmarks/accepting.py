"""The two HTTP services that take requests in: Headrace's, and the bare one with copies of Headrace's records."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson import json_util

from benchmarks.installation import SUBMIT, Installation
from local.process import free_port
from local.servers import http_answers
from tests.support.workers import ROOT

KEY = "a-key-of-this-benchmark"


@dataclass(frozen=True)
class Service:
    """Where SUBMITs are sent."""

    where: Installation
    url: str

    def load(self, seconds: float, **more: float) -> Mapping[str, Any]:
        """What a process that sends so many seconds measured; see benchmarks/load.py. Fails on any answer but 202."""
        argv = [sys.executable, "-m", "benchmarks.load", "--url", self.url, "--key", KEY, "--seconds", str(seconds)]
        argv += ["--body", json.dumps(SUBMIT), *(part for name, value in more.items() for part in _option(name, value))]
        done = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True, timeout=600)
        found: Mapping[str, Any] = json.loads(done.stdout)
        return found


def _option(name: str, value: float) -> Sequence[str]:
    return (f"--{name}", f"{value:g}")


def headrace(where: Installation) -> Service:
    """Headrace's API, as a deployment starts it."""
    keys, port = where.folder / "api-keys", free_port()
    keys.write_text(KEY + "\n")
    keys.chmod(0o600)
    url = f"http://127.0.0.1:{port}"
    set_ = {"HEADRACE_API_KEYS_FILE": str(keys), "HEADRACE_API_PORT": str(port)}
    set_["HEADRACE_API_REQUESTS_PER_MINUTE"] = "0"
    where.process("api", ["-m", "api"], "headrace", lambda _: http_answers(f"{url}/livez"), **set_)
    return Service(where, f"{url}/api/v1/flink/jobs/submit")


def bare(where: Installation) -> Service:
    """The bare route. Headrace must have accepted something: what it wrote is what this one writes."""
    records, port = where.folder / "records.json", free_port()
    with where.records("headrace") as database:
        copied = {"operation": database.operations.find_one(), "job": database.jobs.find_one()}
    records.write_text(json_util.dumps(copied))
    url = f"http://127.0.0.1:{port}"
    argv = ["-m", "uvicorn", "benchmarks.bare_api:app", "--port", str(port), "--no-access-log"]
    answering = f"{url}/openapi.json"
    where.process("bare-api", argv, "bare", lambda _: http_answers(answering), BARE_RECORDS=str(records))
    return Service(where, f"{url}/submit")
