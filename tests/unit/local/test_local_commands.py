"""The commands of laptop mode: what they take from the environment, and what they leave."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from local import __main__ as commands
from local.stack import Options


def test_up_takes_a_flag_before_its_variable_and_leaves_what_was_not_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[Options] = []
    monkeypatch.setattr(commands, "_run", given.append)
    monkeypatch.setenv("HEADRACE_DATA", str(tmp_path))
    monkeypatch.setenv("HEADRACE_API_PORT", "8081")
    monkeypatch.setenv("HEADRACE_FLINK_IMAGE", "of-the-variable")
    monkeypatch.setenv("HEADRACE_FLINK_VERSION", "v2_0")
    done = CliRunner().invoke(commands.app, ["up", "--image", "of-the-flag"])
    assert done.exit_code == 0, done.output
    assert (given[0].data, given[0].api_port) == (tmp_path, 8081)
    assert given[0].said == {"HEADRACE_FLINK_IMAGE": "of-the-flag", "HEADRACE_FLINK_VERSION": "v2_0"}


def test_the_demo_is_the_same_whatever_an_installation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []

    def run_demo(**_: object) -> int:
        seen.append(dict(os.environ))
        return 0

    monkeypatch.setattr("local.demo.run_demo", run_demo)
    for name in [name for name in os.environ if name.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)  # so that it comes back
    monkeypatch.setenv("HEADRACE_FLINK_STATE_LOCATION", "s3://production/flink")
    assert CliRunner().invoke(commands.app, ["demo"]).exit_code == 0
    assert not [name for name in seen[0] if name.startswith("HEADRACE_")]
