"""gRPC on real processes: what is submitted by it becomes a FlinkDeployment, is the same operation by HTTP, and a stop
of the API cuts nobody short."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from headrace.client import BASE
from local.process import Command, free_port
from local.servers import http_answers
from tests.integration.conftest import SCRIPT, Installation
from tests.support import servers, workers
from tests.support.patience import PATIENCE, wait_for
from tests.support.rpc import RpcClient

API_KEY = "a-key-of-some-25-characters"
TEMPLATE = {"template_id": "counting", "type": "PYTHON_SCRIPT", "script": SCRIPT}
on_the_small_api = pytest.mark.parametrize("installation", ["local"], indirect=True)


def api_env(installation: Installation, folder: Path) -> dict[str, str]:
    (keys := folder / "keys").write_text(f"{API_KEY}\n")
    keys.chmod(0o600)
    ports = {"HEADRACE_API_PORT": str(free_port()), "HEADRACE_GRPC_PORT": str(free_port())}
    return installation.env | {"HEADRACE_API_KEYS_FILE": str(keys), **ports}


@on_the_small_api
def test_what_is_submitted_by_grpc_is_deployed_and_is_the_same_operation_by_http(
    installation: Installation, tmp_path: Path
) -> None:
    env = api_env(installation, tmp_path)
    url, address = f"http://127.0.0.1:{env['HEADRACE_API_PORT']}{BASE}", f"127.0.0.1:{env['HEADRACE_GRPC_PORT']}"
    headers = {"Authorization": f"Bearer {API_KEY}"}
    live = url.removesuffix(BASE) + "/livez"
    port = int(env["HEADRACE_API_PORT"])
    command = Command("api", [servers.PYTHON, "-m", "api"], lambda: http_answers(live), address, env, port=port)
    with servers.running(command, tmp_path, workers.ROOT) as process, grpc.insecure_channel(address) as channel:
        rpc = RpcClient(channel, API_KEY)
        assert rpc.health() == "SERVING"
        rpc.call("ApplyTemplate", {"template": TEMPLATE})
        accepted = submitted_by_the_example(address, env["HEADRACE_API_KEYS_FILE"])
        installation.worker()
        wait_for("the deployment", lambda: installation.cluster.runtime.get("default", "orders"))
        body = {"template_id": "counting", "job_id": "orders"}
        again = httpx.post(
            f"{url}/jobs/submit", json=body, headers={**headers, "Idempotency-Key": "k1"}, trust_env=False, timeout=60
        )
        assert again.json()["operation"]["id"] == accepted["operation"]["id"]
        assert again.json()["operation"]["source"] == {"via": "grpc", "by": "file-1"}
        asked = {"operation_id": accepted["operation"]["id"], "wait_seconds": 5}
        answer = rpc.begun("GetOperation", asked)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGTERM)
        assert answer()["operation"]["kind"] == "SUBMIT", "a call that is under way is answered"
        wait_for("the API to end", lambda: process.exit_code is not None)
        assert "Traceback" not in process.log.read_text()


def submitted_by_the_example(address: str, key_file: str) -> dict[str, Any]:
    example = workers.ROOT / "examples" / "submit_by_grpc.py"
    words = ["--address", address, "--key-file", key_file, "--template-id", "counting", "--job-id", "orders"]
    argv = [sys.executable, str(example), *words, "--idempotency-key", "k1"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60 * PATIENCE, cwd="/")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@on_the_small_api
def test_a_port_that_is_taken_ends_the_start_with_one_line(installation: Installation, tmp_path: Path) -> None:
    env = api_env(installation, tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(env["HEADRACE_GRPC_PORT"])))
        taken.listen()
        argv = [servers.PYTHON, "-m", "api"]
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=60 * PATIENCE, cwd=workers.ROOT, env={**os.environ, **env}
        )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("HEADRACE_GRPC_PORT: cannot listen on 127.0.0.1:")
