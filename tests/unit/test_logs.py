"""Log lines cannot be forged: whatever is logged, one record is one line, and a traceback is indented below it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from loguru import logger

from headrace import logs
from headrace.settings import Settings

LINE = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00 (INFO|ERROR) +api task=")
FORGED = "2026-01-01T00:00:00.000+00:00 ERROR   api task=- job=- operation=- the canary"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    logger.remove()
    logger.configure(patcher=lambda _: None)
    logging.basicConfig(force=True)


def logged(capsys: pytest.CaptureFixture[str], text: str, *, as_json: bool = False) -> str:
    """What five ways of logging this text print."""
    logs.configure(Settings(_env_file=None, log_json=as_json), "api")
    capsys.readouterr()
    logger.info("{}", text)
    with logger.contextualize(job_id=text, operation_id=text):
        logger.info("of a job")
    logging.getLogger("a.library").error("it says %s", text)
    try:
        raise ValueError(text)
    except ValueError:
        logger.exception("it broke")
        logging.getLogger("a.library").exception("so did this")
    return capsys.readouterr().err


@given(st.text(max_size=60))
@example(f"a\n{FORGED}")
@example(f"a\r{FORGED}\r\n{FORGED}\x0b{FORGED}\x85{FORGED}\u2028{FORGED}")
@example("\x1b[2J\x1b]0;title\x07\x9b31m\u202e\ud800")
@example("{} {0} <red> {extra[trace]} %s")
@hypothesis_settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_five_records_are_five_lines_whatever_they_hold(capsys: pytest.CaptureFixture[str], text: str) -> None:
    printed = logged(capsys, text)
    lines = printed.splitlines()
    assert len([line for line in lines if LINE.match(line)]) == 5, printed
    assert all(LINE.match(line) or line.startswith("  ") for line in lines), printed
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]", printed)


def test_as_json_each_record_is_one_line_with_the_text_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    lines = logged(capsys, f"a\n{FORGED}", as_json=True).split("\n")
    records = [json.loads(line)["record"] for line in lines if line]
    assert records[0]["message"] == f"a\n{FORGED}"
    assert len(records) == 5


def test_the_readable_text_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert "订单 – „fertig“ 🙂" in logged(capsys, "订单 – „fertig“ 🙂")
