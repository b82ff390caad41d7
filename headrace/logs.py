"""Loguru for every log line, libraries' included, with task, job and operation ids on each. Knows settings alone."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from headrace.printable import printable
from headrace.settings import Settings

if TYPE_CHECKING:
    from loguru import Record

FORMAT = (
    "{time:YYYY-MM-DDTHH:mm:ss.SSSZ} {level: <7} {extra[process_name]} "
    "task={extra[task_id]} job={extra[job_id]} operation={extra[operation_id]} {message}"
)
IDS = ("task_id", "job_id", "operation_id")
NO_IDS = dict.fromkeys(IDS, "-")
SHOWN_JOB_ID = re.compile(r"'job_id': '([^']{1,100})'")
QUIET = ("kubernetes", "urllib3", "pymongo", "httpx", "httpcore", "kombu", "amqp", "tornado.access")


class _Forward(logging.Handler):
    """Hands the standard library's records to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        named = logger.bind(**_ids_of(record))
        named.opt(depth=6, exception=record.exc_info).log(level, "{}", record.getMessage())


def _ids_of(record: logging.LogRecord) -> dict[str, str]:
    """The ids in Celery's own records on a task: its message has the task's id, and its arguments as they are shown."""
    told = record.args if isinstance(record.args, dict) else {}
    if not isinstance(told.get("id"), str) or "name" not in told:
        return {}
    job = SHOWN_JOB_ID.search(str(told.get("kwargs", "")))
    return {"task_id": told["id"], **({"job_id": job[1]} if job else {})}


def configure(settings: Settings, process: str) -> None:
    """Sends every line to stderr in one format (JSON where settings say so). Called once a process."""
    logger.remove()
    logger.configure(extra={"process_name": process, **NO_IDS}, patcher=_as_it_is if settings.log_json else _unforged)
    options: dict[str, Any] = {"level": settings.log_level, "backtrace": False, "diagnose": False}
    if settings.log_json:
        logger.add(sys.stderr, format=FORMAT, serialize=True, **options)
    else:
        logger.add(sys.stderr, format=lambda _: f"{FORMAT}{{extra[trace]}}\n", **options)
    logging.basicConfig(handlers=[_Forward()], level=settings.log_level, force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _as_it_is(_: Record) -> None:
    """JSON has a way of its own to keep a record in its line."""


def _unforged(record: Record) -> None:
    """Whatever somebody sent, a record is one line, and the lines of its traceback are indented below it."""
    record["message"] = printable(record["message"])
    record["extra"].update({name: printable(str(record["extra"][name])) for name in IDS})
    raised = record["exception"]
    lines = traceback.format_exception(*raised) if raised else []
    record["extra"]["trace"] = "".join(f"\n  {printable(line)}" for text in lines for line in text.rstrip().split("\n"))


def say_start(settings: Settings, process: str) -> None:
    """The one start-up line: what the process talks to, the runtime, the namespace and the image."""
    described = ", ".join(f"{name} {value}" for name, value in settings.described().items())
    logger.info("{} starts: {}", process, described)


def say_unforeseen(error: BaseException, about: str) -> None:
    """One line that says where an exception that nobody foresaw (errors.unforeseen) came from. Its own words are left
    out: they may repeat what somebody sent."""
    frames = reversed(traceback.extract_tb(error.__traceback__)[-12:])
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    logger.error("{}: {} in {}; this is a mistake of ours, please report it", about, type(error).__name__, places)
