"""The commands of laptop mode: what they take from the environment, and what they leave."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from api.access import read_keys
from local import __main__ as commands
from local.kube_apiserver import write_credentials
from local.stack import Options, Stack
from worker.flower import read_logins


@pytest.fixture(autouse=True)
def its_own_umask() -> Iterator[None]:
    """A command makes what it starts private, and here that is the process of the tests."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


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


def test_whatever_a_command_makes_is_its_owners_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(commands, "_run", lambda _: (tmp_path / "log").write_text("x"))
    assert CliRunner().invoke(commands.app, ["up"]).exit_code == 0
    assert mode(tmp_path / "log") == 0o600


def test_a_data_folder_and_its_keys_become_private_though_they_were_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("local.stack.is_free", lambda _: True)
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    (data / "stack.json").write_text("{}")
    Stack(Options(data), lambda _: None, lambda: False)._prepare()
    assert mode(data) == 0o700
    made = {file.name: mode(file) for file in data.iterdir() if file.name != "stack.json"}
    assert made == {"api-keys": 0o600, "sealing-keys": 0o600, "flower-login": 0o600}
    assert len(read_keys(data / "api-keys")) == 1
    assert read_logins(data / "flower-login")[0].startswith("headrace:")


def test_a_folder_that_is_somebody_elses_keeps_its_mode(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("local.stack.is_free", lambda _: True)
    tmp_path.chmod(0o755)
    (tmp_path / "letters").mkdir()
    Stack(Options(tmp_path), lambda _: None, lambda: False)._prepare()
    assert mode(tmp_path) == 0o755


def test_an_administrators_credentials_are_private_also_those_of_an_earlier_release(tmp_path: Path) -> None:
    write_credentials(tmp_path / "kubernetes")
    secret = [tmp_path / "kubernetes" / name for name in ("token", "tokens.csv", "sa.key")]
    assert [mode(file) for file in secret] == [0o600] * 3
    for file in secret[1:]:
        file.chmod(0o644)
    write_credentials(tmp_path / "kubernetes")
    assert [mode(file) for file in secret] == [0o600] * 3


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)
