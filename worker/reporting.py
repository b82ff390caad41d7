"""Says once a minute which runtimes work for this process, for as long as it lives, from a thread of its own. Whatever
comes of that, the process goes on. Knows no runtime."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from loguru import logger

from headrace import logs
from headrace.errors import HeadraceError

EVERY_SECONDS = 60.0
"""A report is good for three times as long (domain/runtime_reports.py)."""

ABOUT = "which runtimes work for this process was not put on record"


def begin(report: Callable[[], object]) -> None:
    """The first report is made at once."""
    threading.Thread(target=_go_on, args=(report,), name="runtimes", daemon=True).start()


def _go_on(report: Callable[[], object]) -> None:
    while True:
        tried(report)
        time.sleep(EVERY_SECONDS)


def tried(report: Callable[[], object]) -> None:
    """One report; where it could not be made, the log says why."""
    try:
        report()
    except HeadraceError as error:
        logger.warning("{}: {}", ABOUT, error)
    except Exception as error:  # noqa: BLE001 - the next report may come right, and the process has other work
        logs.say_unforeseen(error, ABOUT)
