"""Becomes another program, which dies with the process that started it: `python dying_with.py PARENT SIGNAL PROGRAM …`.

It is a program of its own because it has to run after exec. Code between fork and exec, which `Popen(preexec_fn=…)` is,
runs in a copy of a process whose other threads are gone: what they held is held for ever, and gRPC ends such a copy.
It is started for every server, so it imports next to nothing, and nothing of this project.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2); execve(2) keeps it
NOT_STARTED = 127  # as a shell has it


def main(parent: int, death_signal: int, argv: list[str]) -> None:
    """Does not return: it is that program, found in the PATH, or it ends and says why it is not."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:  # which ended before it was asked
        os._exit(1)
    with open("/proc/self/environ", "rb") as given:  # noqa: PTH123 - pathlib takes as long as all the rest
        if not any(each.startswith(b"LC_CTYPE=") for each in given.read().split(b"\0")):
            os.environ.pop("LC_CTYPE", None)  # Python's own, where there is no locale (PEP 538)
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, and execve(2) would keep it
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)
    except OSError as failure:
        os.write(2, f"{argv[0]} was not started: {failure.strerror}\n".encode())
        os._exit(NOT_STARTED)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
