"""Files of keys: what opens our doors is private, strong, and nothing that was not meant to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from api.access import given_by, read_keys
from headrace.errors import ConfigurationError, Unauthorized
from headrace.services.api_keys import ApiKeys, Callers
from headrace.testing import FixedClock, InMemoryStore
from worker.flower import read_logins

GOOD = "b7c1e0d2f49a4c5d8e6f"


def keys_in(tmp_path: Path, content: bytes, mode: int = 0o600) -> Path:
    file = tmp_path / "keys"
    file.touch()
    file.chmod(0o600)
    file.write_bytes(content)
    file.chmod(mode)
    return file


@pytest.mark.parametrize(
    "content",
    [
        f"{GOOD}\n",
        f"  {GOOD}  \r\n\r\n",
        f"# of the service that orders\n{GOOD}\n",
        f"\ufeff{GOOD}\n",
        f"\ufeff# a comment\n{GOOD}",
    ],
)
def test_a_key_is_what_stands_in_its_line_and_nothing_else_is_one(tmp_path: Path, content: str) -> None:
    assert read_keys(keys_in(tmp_path, content.encode())) == (GOOD.encode(),)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no key in it"),
        (b"# a comment\n", "has no key in it"),
        (b"short-canary-of-19\n", "line 1: it has fewer than 20 characters"),
        (b"canarycanarycanarycanary" + b"\n# x\nx\n", "fewer than 6 different"),
        (f"{GOOD}\nx\n".encode(), "line 2: it has fewer than 20"),
        (f"{GOOD}-canary # a comment\n".encode(), "line 1: it holds something else"),
        (f"{GOOD}-canarÿ\n".encode(), "line 1: it holds something else"),
        (f"{GOOD}-canary\0\n".encode(), "line 1: it holds something else"),
        (f"{GOOD}-canary".encode("utf-16"), "cannot be read"),
    ],
)
def test_a_weak_or_broken_key_stops_the_process_and_is_not_repeated(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^HEADRACE_API_KEYS_FILE: ") as raised:
        read_keys(keys_in(tmp_path, content))
    assert words in str(raised.value)
    assert "canary" not in str(raised.value)
    assert GOOD not in str(raised.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o666, 0o602])
def test_a_file_of_ours_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"has mode {mode:04o}.*chmod 600"):
        read_keys(keys_in(tmp_path, GOOD.encode(), mode))


@pytest.mark.parametrize(
    ("mode", "is_taken"), [(0o440, True), (0o640, True), (0o400, True), (0o444, False), (0o460, False)]
)
def test_a_file_of_somebody_else_as_in_a_mounted_secret_may_be_our_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, is_taken: bool
) -> None:
    file = keys_in(tmp_path, GOOD.encode(), mode)
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    if is_taken:
        assert read_keys(file) == (GOOD.encode(),)
    else:
        with pytest.raises(ConfigurationError, match="defaultMode 0400"):
            read_keys(file)


def test_a_file_that_is_not_set_or_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="HEADRACE_API_KEYS_FILE is not set: name a file with one API key"):
        read_keys(None)
    with pytest.raises(ConfigurationError, match="No such file"):
        read_keys(tmp_path / "none")
    with pytest.raises(ConfigurationError, match="HEADRACE_FLOWER_LOGIN_FILE is not set"):
        read_logins(None)


@pytest.mark.parametrize("given", [GOOD[:-1], f"{GOOD} x", GOOD.upper(), "", "ÿ" * 20])
def test_no_other_key_is_taken(given: str) -> None:
    clock = FixedClock()
    callers = Callers(ApiKeys(InMemoryStore(), "default", clock), [GOOD.encode()], clock)
    assert callers.of(given_by({"authorization": f"Bearer {GOOD}"})).name == "file-1"
    for headers in ({"authorization": f"Bearer {given}"}, {"x-api-key": given}):
        with pytest.raises(Unauthorized, match="send an API key"):
            callers.of(given_by(headers))


@pytest.mark.parametrize("line", [f":{GOOD}", "user:", GOOD, f"user:{GOOD},other:{GOOD}", "user:short-canary-pass"])
def test_a_login_is_a_user_and_a_strong_password(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^HEADRACE_FLOWER_LOGIN_FILE: ") as raised:
        read_logins(keys_in(tmp_path, line.encode()))
    assert GOOD not in str(raised.value)
    assert "canary" not in str(raised.value)


def test_logins_are_read(tmp_path: Path) -> None:
    content = f"# who looks\nanna:{GOOD}\nben:{GOOD}:1\n"
    assert read_logins(keys_in(tmp_path, content.encode())) == (f"anna:{GOOD}", f"ben:{GOOD}:1")
