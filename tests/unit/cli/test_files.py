"""What is sent of a disk: the folder that was given, and nothing that a link or a path in it leads to elsewhere."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace.cli.files import source_from, template_from, working_folder
from headrace.errors import InvalidRequest


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder from somewhere, beside something that is nobody else's business."""
    (tmp_path / "secret.txt").write_text("canary")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key.py").write_text("canary")
    folder = tmp_path / "checkout"
    (folder / "lib").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("canary")
    (folder / "main.py").write_text("print(1)\n")
    (folder / "lib" / "util.py").write_text("print(2)\n")
    return folder


LINKS = ["../secret.txt", "{outside}/secret.txt", "lib/../../secret.txt", "../secrets", ".git/config"]


@pytest.mark.parametrize("target", LINKS)
@pytest.mark.parametrize("place", ["link.py", "lib/link.py"])
def test_a_link_in_a_folder_leads_nowhere_else(checkout: Path, target: str, place: str) -> None:
    link = checkout / place
    where = target.format(outside=checkout.parent)
    link.symlink_to(where if place == "link.py" or where.startswith("/") else f"../{where}")
    assert link.exists()
    with pytest.raises(InvalidRequest) as raised:
        source_from(str(checkout))
    assert str(link) in str(raised.value)


@pytest.mark.parametrize("target", ["link.py", "none.py"])
def test_a_link_to_nothing_is_no_file(checkout: Path, target: str) -> None:
    (checkout / "link.py").symlink_to(target)
    with suppress(InvalidRequest):
        assert [file["name"] for file in source_from(str(checkout))["files"]] == ["lib/util.py"]


def test_a_link_within_a_folder_is_the_file_that_it_leads_to(checkout: Path) -> None:
    (checkout / "same.py").symlink_to("lib/util.py")
    files = {file["name"]: file["content"] for file in source_from(str(checkout), main="main.py")["files"]}
    assert files == {"lib/util.py": "print(2)\n", "same.py": "print(2)\n"}


def test_what_the_user_names_may_be_a_link(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "named").symlink_to(checkout)
    (tmp_path / "named.py").symlink_to(checkout / "main.py")
    assert source_from(str(tmp_path / "named"))["script"]["content"] == "print(1)\n"
    assert source_from(str(tmp_path / "named.py"))["script"]["content"] == "print(1)\n"


NAMED = ["../secret.txt", "{outside}/secret.txt", "lib/../../secret.txt", ".git/config", "link.txt", "../secrets"]


@pytest.mark.parametrize("named", NAMED)
@pytest.mark.parametrize("field", ["script", "files"])
def test_a_template_names_files_of_its_own_folder_alone(checkout: Path, named: str, field: str) -> None:
    (checkout / "link.txt").symlink_to("../secret.txt")
    path = named.format(outside=checkout.parent)
    (checkout / "t.yaml").write_text(f"template_id: t\n{field}: {[path] if field == 'files' else path}\n")
    with pytest.raises(InvalidRequest, match="is hidden or outside of") as raised:
        template_from(checkout / "t.yaml")
    assert "canary" not in str(raised.value)


def test_a_template_may_name_files_below_where_its_user_works(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "templates").mkdir()
    file = checkout / "templates" / "t.yaml"
    file.write_text("template_id: t\nscript: ../main.py\n")
    with pytest.raises(InvalidRequest):
        template_from(file)
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("HOME", str(checkout.parent / "home"))
    assert template_from(Path("templates/t.yaml"), working_folder())["script"]["content"] == "print(1)\n"
    for home in (checkout, checkout / "below"):
        monkeypatch.setenv("HOME", str(home))
        assert working_folder() is None, "a home, or what is above it, is no folder of a job"


def test_a_template_can_come_from_stdin(run: Any, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []

    def answers(request: httpx.Request) -> httpx.Response:
        sent.append(request.content)
        return httpx.Response(201, json={"template_id": "t", "version": 1, "type": "PYTHON_SCRIPT"})

    (checkout / "t.yaml").write_text("template_id: t\nscript: main.py\n")
    monkeypatch.chdir(checkout)
    with (checkout / "t.yaml").open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert run(answers, "templates", "apply", "-f", "-")[0] == 0
    assert b"print(1)" in sent[0]


@pytest.mark.parametrize("given", ["/dev/zero", "\0", "x" * 5000, "big.py", "pipe/"])
def test_what_never_ends_or_is_too_large_is_one_line(run: Any, checkout: Path, given: str) -> None:
    (checkout / "big.py").write_bytes(b"#" * (2 * 1024 * 1024 + 1))
    (checkout / "pipe").mkdir()
    os.mkfifo(checkout / "pipe" / "main.py")
    path = given if given.startswith("/") else str(checkout / given)
    code, out, err = run(lambda _: httpx.Response(500, json={}), "submit", path)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
