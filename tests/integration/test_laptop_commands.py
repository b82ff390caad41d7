"""`up`, `down` and `demo` where something is in their way, and what they leave."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from local.process import Command, LocalProcess, answers, free_port
from tests.support.patience import wait_for
from tests.support.servers import running
from tests.support.stack import ROOT, processes_of, running_stack, start

pytestmark = pytest.mark.timeout(180)
LOOKS = """
import json, sys
from local.process import free_port
print(json.dumps([free_port() for _ in range(20)]), flush=True)
sys.stdin.read()
"""


def local(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "local", *arguments]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("name", ["api", "flower"])
def test_a_port_that_is_taken_is_one_line_that_says_what_to_do(name: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"api": str(free_port()), "flower": str(free_port()), name: str(port)}
        options = [word for key, value in ports.items() for word in (f"--{key}-port", value)]
        done = local("up", "--data", str(tmp_path / "data"), *options)
    assert done.returncode == 1
    assert done.stderr == f"port {port} is taken: free it, or choose another with --{name}-port\n"
    assert processes_of(tmp_path) == []


def test_a_free_port_is_none_that_an_outgoing_connection_may_take_before_its_server_starts() -> None:
    outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = {free_port() for _ in range(20)}
    assert max(ports) < outgoing
    assert len(ports) > 1
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_a_free_port_is_given_to_one_process_alone() -> None:
    """Who is given it starts a server there in a while: until then nothing listens, and others look for ports too."""
    argv = [sys.executable, "-c", LOOKS]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as another:
        assert another.stdin is not None
        assert another.stdout is not None
        theirs = json.loads(another.stdout.readline())
        assert theirs, "another process finds some"
        with patch("local.process.random.sample", lambda served, count: theirs):
            given = free_port()
            assert given not in theirs, "none of them is given again while it lives"
        another.stdin.close()
    with patch("local.process.random.sample", lambda served, count: theirs):
        assert free_port() in theirs, "and once it has ended, they are free"


def test_a_server_whose_port_another_has_is_not_ready_though_that_one_answers(tmp_path: Path) -> None:
    """Seen in etcd, which answers at the paths where our API says that it lives."""
    port = free_port()
    argv = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    command = Command("server", argv, lambda: answers(port), port=port)
    with running(command, tmp_path / "first") as first:
        second = LocalProcess(command, tmp_path / "second.log", tmp_path)
        second.start()
        try:
            wait_for("the second to have found it taken", lambda: second.exit_code is not None)
            assert command.is_ready(), "the port answers"
            assert first.is_ready()
            assert not second.is_ready()
        finally:
            second.stop()


def test_down_stops_everything_and_keeps_the_data_unless_told_otherwise(tmp_path: Path) -> None:
    data = tmp_path / "data"
    stack = start(data)
    second = local("up", "--data", str(data))
    assert second.returncode == 1
    assert "it is up already" in second.stdout
    assert local("status", "--data", str(data)).returncode == 0
    assert local("down", "--data", str(data)).returncode == 0
    stack.process.wait(60)
    wait_for("its processes to be gone", lambda: processes_of(data) == [])
    assert (data / "mongodb").is_dir()
    assert local("status", "--data", str(data)).returncode == 1
    assert local("down", "--data", str(data), "--erase").returncode == 0
    assert not data.exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGKILL, -9)])
def test_nothing_outlives_a_demo_that_is_stopped(tmp_path: Path, number: signal.Signals, code: int) -> None:
    argv = [sys.executable, "-m", "local", "demo", "--data", str(tmp_path / "data")]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        while "kubernetes " not in process.stdout.readline():
            assert process.poll() is None, "the demo ended before it was stopped"
        process.send_signal(number)
        assert process.wait(90) == code
        said = process.stdout.read()  # up to the end of the last process that has it
    assert "Traceback" not in said
    wait_for("the stack to be gone", lambda: processes_of(tmp_path / "data") == [], 60)


def test_a_demo_beside_a_stack_that_is_up_in_its_folder_leaves_it_alone(tmp_path: Path) -> None:
    with running_stack(tmp_path / "data", {"KUBEBUILDER_ASSETS": ""}) as stack:
        done = local("demo", "--data", str(tmp_path / "data"))
        assert done.returncode == 1
        assert f"it is up already (pid {stack.process.pid})" in done.stdout
        assert stack.call("GET", "/jobs").status_code == 200
