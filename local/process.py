"""One supervised local process: how it is started, asked whether it is ready, and stopped. Knows no Flink, no stack."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

DYING_WITH = Path(__file__).with_name("dying_with.py")
LOWEST_PORT = 16_384  # above the ports that well-known servers listen on
MOST_RESERVED = 200
"""How many ports a process keeps from others. Each keeps a file open; with so many since, a server listens on it."""

_LISTENS = "0A"
_RESERVED: deque[int] = deque()


@dataclass(frozen=True)
class Command:
    """What is to run. `address` is shown to people; `is_ready` must answer within a second or two and not raise; `port`
    is the one of the loopback that it serves, if any; `death_signal` is what it gets where its parent dies."""

    name: str
    argv: Sequence[str]
    is_ready: Callable[[], bool]
    address: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    ready_timeout_seconds: float = 60.0
    stop_timeout_seconds: float = 15.0
    death_signal: int = signal.SIGTERM
    port: int = 0


class LocalProcess:
    """A running Command. It dies with its parent, whatever happens to that (start it from the main thread)."""

    def __init__(self, command: Command, log: Path, cwd: Path) -> None:
        self.command = command
        self.log = log
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The process' id, while there is one."""
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Starts it; what it prints is appended to its log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                dying_with_us(self.command.argv, self.command.death_signal),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._cwd,
                env={**os.environ, **self.command.env},
                start_new_session=True,
            )
        self.started_at = time.monotonic()

    def is_ready(self) -> bool:
        """Whether it says that it is, and the port that it serves is its own: on one that another process took before
        it, that one may answer as if it were this."""
        return self.command.is_ready() and (not self.command.port or self._listens())

    def _listens(self) -> bool:
        if self._process is None:
            return False
        listening = _listening_on(self.command.port)
        return any(_sockets_of(pid) & listening for pid in _of_session(self._process.pid))

    def ask_to_stop(self) -> None:
        """SIGTERM, without waiting: so that several end at the same time, before each is stopped for certain."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to its whole group where that is not enough."""
        if self._process is None:
            return
        self.ask_to_stop()
        if self._process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self.command.stop_timeout_seconds)
        _kill_group(self._process.pid)
        self._process.wait(10)

    def log_tail(self, lines: int = 8) -> str:
        """The end of what it printed."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def dying_with_us(argv: Sequence[str], death_signal: int) -> list[str]:
    """What to start in place of `argv`, as a child of this process: it becomes that program, under the same pid, and
    gets this signal where the thread that started it ends, however it ends (prctl(2)). A program that is not there is
    said on its stderr, with exit code 127."""
    return [sys.executable, "-I", "-S", str(DYING_WITH), str(os.getpid()), str(int(death_signal)), *argv]


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _listening_on(port: int) -> set[str]:
    """The sockets, as /proc/PID/fd names them, that listen on this port of any address (proc(5), net/tcp)."""
    found = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):  # a kernel without IPv6
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                _, local, _, state, *_, inode = line.split()[:10]
                if state == _LISTENS and int(local.rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{inode}]")
    return found


def _of_session(session: int) -> Iterator[int]:
    """The processes of this session: the one that began it, and what it started."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # one that has just ended
            if int(stat.read_text().rpartition(")")[2].split()[3]) == session:
                yield int(stat.parent.name)


def _sockets_of(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):  # it has just ended, or closed one of them
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(str(each.readlink()))
    return found


def free_port() -> int:
    """A port of the loopback that nobody listens on now, that no outgoing connection is given meanwhile, and that no
    other process which asks here is given while this one lives: a server finds it free when it starts, and when it is
    started again. (Where the kernel leaves no such ports, any free one.)
    """
    served = range(LOWEST_PORT, max(LOWEST_PORT, _first_outgoing_port()))
    for port in random.sample(served, min(1000, len(served))):
        if is_free(port) and _reserve(port):
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found


def _reserve(port: int) -> bool:
    """Keeps the port from others who look for one, by a name that one process alone can have; False where one has it.

    The name is of Linux's abstract ones: they belong to the network that the ports are of, need no file, and end with
    the process (unix(7))."""
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0headrace-port-{port}")
    except OSError:
        name.close()
        return False
    _RESERVED.append(name.detach())
    if len(_RESERVED) > MOST_RESERVED:
        os.close(_RESERVED.popleft())
    return True


def _first_outgoing_port() -> int:
    """Where the ports begin that the kernel takes for outgoing connections (`ip_local_port_range`, ip(7))."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return LOWEST_PORT


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def answers(port: int, send: bytes = b"", expect: bytes = b"") -> bool:
    """Whether a server on this port takes a connection, and gives `expect` for `send`."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.settimeout(1)
            if send:
                connection.sendall(send)
                return expect in connection.recv(4096)
            return True
    except OSError:
        return False
