"""Flower as its own process: nobody reads a task without its login, and no other web page reads it for them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from local import servers
from local.process import Command, LocalProcess, free_port
from tests.support.patience import REQUEST_SECONDS, wait_for
from tests.support.stack import ROOT

LOGIN = ("anna", "b7c1e0d2f49a4c5d8e6f")
PAGES = ("/", "/tasks", "/workers", "/broker", "/api/tasks", "/api/workers", "/api/task/info/x", "/api/queues/length")


@pytest.fixture(scope="module")
def flower(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a Flower over a Redis, with the variable set that would open it."""
    folder = tmp_path_factory.mktemp("flower")
    login, port = folder / "login", free_port()
    login.write_text(":".join(LOGIN) + "\n")
    login.chmod(0o600)
    redis = LocalProcess(servers.redis(redis_port := free_port(), folder / "redis"), folder / "redis.log", ROOT)
    env = {
        "HEADRACE_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
        "HEADRACE_FLOWER_PORT": str(port),
        "HEADRACE_FLOWER_LOGIN_FILE": str(login),
        "FLOWER_UNAUTHENTICATED_API": "true",
    }
    url = f"http://127.0.0.1:{port}"

    def is_up() -> bool:
        return servers.http_answers(f"{url}/healthcheck")

    command = Command("flower", [sys.executable, "-m", "worker.flower"], is_up, url, env, port=port)
    process = LocalProcess(command, folder / "flower.log", ROOT)
    redis.start()
    wait_for("Redis", redis.is_ready, 30)
    process.start()
    try:
        wait_for("Flower", process.is_ready, 60)
        with httpx.Client(base_url=url, timeout=REQUEST_SECONDS, trust_env=False) as client:
            yield client
        assert LOGIN[1] not in process.log.read_text()
        assert LOGIN[1] not in Path(f"/proc/{process.pid}/cmdline").read_text()
    finally:
        process.stop()
        redis.stop()


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("auth", [None, (LOGIN[0], "wrong"), ("", ""), ("other", LOGIN[1])])
def test_nobody_reads_a_page_without_the_login(flower: httpx.Client, page: str, auth: tuple[str, str] | None) -> None:
    headers = {"Origin": "http://evil.example.com", "Host": "evil.example.com"}
    answer = flower.get(page, auth=auth, headers=headers)
    assert answer.status_code == 401
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize("page", ["/tasks", "/api/tasks", "/healthcheck", "/metrics"])
def test_no_other_web_page_may_read_what_the_login_opens(flower: httpx.Client, page: str) -> None:
    answer = flower.get(page, auth=LOGIN, headers={"Origin": "http://evil.example.com"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


def test_without_a_login_it_does_not_start() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    argv = [sys.executable, "-m", "worker.flower"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert done.returncode == 1
    said = "HEADRACE_FLOWER_LOGIN_FILE is not set: name a file with one user:password a line\n"
    assert done.stderr == said
