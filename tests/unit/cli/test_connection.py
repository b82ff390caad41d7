"""Where the command line finds its API: what is named counts before what is near, and what is not there is said."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from headrace.cli import connection, main
from headrace.client import Client
from headrace.errors import ConfigurationError


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HEADRACE_URL", "HEADRACE_API_KEY", "HEADRACE_DATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def stack(data: Path, name: str) -> Path:
    """A data folder that names itself in its address and its key."""
    data.mkdir(parents=True)
    (data / "api-keys").write_text(f"key-of-{name}\n")
    content = {"api_url": f"http://{name}", "api_key_file": str(data / "api-keys")}
    (data / "stack.json").write_text(json.dumps(content))
    return data


def configured(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "home" / ".config" / "headrace"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(f'url = "http://{name}"\napi_key = "key-of-{name}"\n')


def found(data: Path | None = None) -> str:
    made = connection.find(None, None, data)
    assert made.api_key == f"key-of-{made.url.removeprefix('http://')}"
    return made.url.removeprefix("http://")


def test_what_is_named_counts_before_what_is_near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack(tmp_path / ".headrace", "near")
    assert found() == "near"
    configured(tmp_path, "configured")
    assert found() == "configured"
    monkeypatch.setenv("HEADRACE_DATA", str(stack(tmp_path / "elsewhere", "variable")))
    assert found() == "variable"
    monkeypatch.setenv("HEADRACE_URL", "http://environment")
    monkeypatch.setenv("HEADRACE_API_KEY", "key-of-environment")
    assert found() == "environment"
    assert found(stack(tmp_path / "flag", "flag")) == "flag"


def test_flags_replace_their_half(tmp_path: Path) -> None:
    data = stack(tmp_path / "data", "data")
    (tmp_path / "key").write_text("another\n")
    made = connection.find("http://through-a-tunnel", None, data)
    assert (made.url, made.api_key) == ("http://through-a-tunnel", "key-of-data")
    made = connection.find(None, tmp_path / "key", data)
    assert (made.url, made.api_key) == ("http://data", "another")


def test_the_command_takes_a_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []

    def client(found: connection.Connection) -> Client:
        reached.append(found.url)
        answer = httpx.Response(200, json={"jobs": [], "next_cursor": None})
        return Client(found.url, found.api_key, transport=httpx.MockTransport(lambda _: answer))

    monkeypatch.setattr(connection, "client", client)
    monkeypatch.setattr("sys.argv", ["headrace", "--data", str(stack(tmp_path / "data", "data")), "list"])
    with suppress(SystemExit):
        main.main()
    assert reached == ["http://data"]


def test_where_nothing_is_known_each_place_that_was_looked_at_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        connection.find(None, None)
    for words in (
        "--url",
        "HEADRACE_URL",
        "HEADRACE_DATA",
        "config.toml",
        str(tmp_path / "here"),
        "./run up",
        "--data",
    ):
        assert words in str(raised.value)


@pytest.mark.parametrize("by", ["--data", "HEADRACE_DATA"])
def test_a_folder_without_a_stack_is_named_with_how_to_start_one(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack(tmp_path / ".headrace", "near")
    monkeypatch.setenv("HEADRACE_DATA", str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match=f"^{by} .*none: there is no .*none/stack.json; ./run up --data"):
        connection.find(None, None, tmp_path / "none" if by == "--data" else None)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"api_url": "http://a"}', '{"api_url": "a", "api_key_file": 1}']
)
def test_a_stack_file_that_is_broken_is_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text(content)
    with pytest.raises(ConfigurationError, match="is not what") as raised:
        connection.find(None, None, tmp_path)
    assert len(str(raised.value).splitlines()) == 1


def test_a_configuration_that_is_broken_is_one_line(tmp_path: Path) -> None:
    configured(tmp_path, "a")
    (tmp_path / "home" / ".config" / "headrace" / "config.toml").write_text("url = \n")
    with pytest.raises(ConfigurationError, match=r"config\.toml cannot be read"):
        connection.find(None, None)
