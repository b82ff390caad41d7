"""docs/command-line.md says what is so, and every `headrace` line of the docs is one that the parser takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from headrace.cli import exits
from headrace.cli.main import app

ROOT = Path(__file__).parents[3]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SPOKEN = re.compile(r"`((?:\./run )?headrace [^`\n]+)`|^((?:\./run )?headrace .+)$", re.MULTILINE)


def test_the_exit_codes_of_the_page_are_those_of_the_command() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text()
    listed = {int(code): meaning for code, meaning in re.findall(r"^\| (\d+) \| (.+) \|$", page, re.MULTILINE)}
    assert listed == exits.MEANINGS


def lines() -> list[str]:
    found = []
    for page in DOCS:
        for quoted, alone in SPOKEN.findall(page.read_text()):
            line = (quoted or alone).removeprefix("./run ").replace("\\|", "|").partition("#")[0]
            found.append(re.split(r" \| |, | \(", line)[0].strip())
    return sorted(set(found))


@pytest.mark.parametrize("line", lines())
def test_every_line_of_the_docs_is_a_command_that_there_is(line: str) -> None:
    words = shlex.split(line)[1:]
    words = ["-h" if word in ("COMMAND", "…") else word for word in words]
    with app.make_context("headrace", words, resilient_parsing=True) as context:
        command: click.Command = app
        left = [*context._protected_args, *context.args]
        while isinstance(command, click.Group) and left:
            if left[0] in ("-h", "--help"):
                return
            name, command, left = command.resolve_command(context, left)
            assert command is not None, name
        for option in (word.partition("=")[0] for word in left if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", word)):
            known = [name for parameter in command.params for name in parameter.opts] + ["-h", "--help"]
            assert option in known or "--arg" in left, f"{option} of {line}"


def test_there_are_lines_to_look_at() -> None:
    assert len(lines()) > 20
