"""What `submit` and `render` are told to run: their one list of options, and the request that it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from headrace.cli import completion
from headrace.errors import InvalidRequest

Command = TypeVar("Command", bound=Callable[..., None])


@dataclass(frozen=True, kw_only=True)
class Program:
    """The options as they were given."""

    source: str | None
    template: str | None
    template_version: int | None
    name: str | None
    parallelism: int | None
    arg: tuple[str, ...]
    env: tuple[str, ...]
    param: tuple[str, ...]
    file: tuple[Path, ...]
    main: str | None
    main_class: str | None
    jar_file: tuple[str, ...]
    set_: tuple[str, ...]

    @property
    def said(self) -> frozenset[str]:
        """The names of the options that were given."""
        return frozenset(name for name, value in vars(self).items() if value not in (None, ()))

    def body(self, template_of: Callable[[str], Mapping[str, Any]]) -> dict[str, Any]:
        """The request's body; `template_of` gives a template by its id, for the types of its parameters. Raises
        InvalidRequest."""
        if (self.source is None) == (self.template is None):
            raise InvalidRequest({"program": "give either a program (a file, a folder or a URL) or --template"})
        body: dict[str, Any] = {"template_id": self.template, "job_config": self._config()}
        if self.template_version is not None:
            body["template_version"] = self.template_version
        if self.param:
            body["parameters"] = self._parameters(template_of)
        return {**body, "job_id": self.name} if self.name else body

    def changes(self, template_of: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """The body of a request that changes a job; `template_of` gives the template that it is made from. Raises
        InvalidRequest."""
        body: dict[str, Any] = {"job_config": self._config()}
        if self.template_version is not None:
            body["template_version"] = self.template_version
        if self.param:
            body["parameters"] = self._typed(template_of())
        if body == {"job_config": {}}:
            raise InvalidRequest(
                {"program": "say what changes: a program, --template-version, --param, --set, --env …"}
            )
        return body

    def _config(self) -> dict[str, Any]:
        from headrace.cli import assignments, files

        config = files.source_from(self.source, self.file, self.main) if self.source else self._of_a_template()
        for text in self.set_:
            assignments.set_in(config, text)
        for name, value in assignments.pairs("--env", self.env).items():
            assignments.inside(config, "env", "env")[name] = value
        options: dict[str, tuple[str, Any]] = {
            "args": ("--arg", list(self.arg)),
            "main_class": ("--main-class", self.main_class),
            "jar_files": ("--jar-file", list(self.jar_file)),
            "parallelism": ("--parallelism", self.parallelism),
        }
        for field, (flag, value) in options.items():
            if value is None or value == []:
                continue
            if field in config:
                raise InvalidRequest({field: f"is set by --set and by {flag}: leave one"})
            config[field] = value
        return config

    def _of_a_template(self) -> dict[str, Any]:
        """No program of its own. What would be sent beside one is not dropped without a word."""
        for flag, value in (("--file", self.file), ("--main", self.main)):
            if value:
                raise InvalidRequest({flag: "goes with a program from your disk; a template has its own files"})
        return {}

    def _parameters(self, template_of: Callable[[str], Mapping[str, Any]]) -> dict[str, Any]:
        return self._typed(template_of(self.template) if self.template else {})

    def _typed(self, template: Mapping[str, Any]) -> dict[str, Any]:
        from headrace.cli import assignments

        declared = template.get("parameters", {})
        given = assignments.pairs("--param", self.param)
        types = {name: declared.get(name, {}).get("type", "STRING") for name in given}
        return {name: assignments.typed(value, types[name]) for name, value in given.items()}


PROGRAM = click.argument("source", required=False, metavar="[PROGRAM]")
OF_A_NEW_JOB = (
    click.option(
        "--template", metavar="ID", shell_complete=completion.template_ids, help="A registered template, by its id."
    ),
    click.option("--template-version", type=int, help="A version of the template; the newest if not given."),
    click.option("--name", metavar="JOB_ID", help="The job's id; made from the template's if not given."),
)
OF_A_JOB = (
    click.option("--template-version", type=int, help="Another version of its template; what it has if not given."),
)
FIELDS = (
    click.option("--parallelism", type=int, help="How many subtasks."),
    click.option("--arg", multiple=True, help="An argument of the program; repeatable."),
    click.option("--env", multiple=True, metavar="KEY=VALUE", help="A variable, as text; repeatable."),
    click.option("--param", multiple=True, metavar="NAME=VALUE", help="A template's parameter; repeatable."),
    click.option(
        "--file", multiple=True, type=click.Path(path_type=Path), help="One more file beside the script; repeatable."
    ),
    click.option("--main", help="The file of a folder that is run; main.py if not given."),
    click.option("--main-class", help="The main class of a jar."),
    click.option("--jar-file", multiple=True, metavar="URL", help="A jar for the class path; repeatable."),
    click.option(
        "--set",
        "set_",
        multiple=True,
        metavar="PATH=VALUE",
        help="Any field, its value as YAML; repeatable. A name with dots stands in quotes: 'resources.\"a.b\"=1'. "
        "Names of flink_configuration, env, labels, pod.annotations and pod.node_selector may have dots as they are.",
    ),
)


def takes_program(command: Command) -> Callable[..., None]:
    """Gives a command what a new job can be made from, as its first argument."""
    return _taking(command, (PROGRAM, *OF_A_NEW_JOB, *FIELDS))


def takes_changes(command: Command) -> Callable[..., None]:
    """Gives a command what can change in a job, as its first argument."""
    return _taking(command, (PROGRAM, *OF_A_JOB, *FIELDS))


def _taking(command: Command, options: Sequence[Callable[[Any], Any]]) -> Callable[..., None]:
    @wraps(command)
    def with_program(**given: Any) -> None:
        program = Program(**{name: given.pop(name, None) for name in Program.__dataclass_fields__})
        command(program, **given)

    decorated: Callable[..., None] = with_program
    for option in reversed(options):
        decorated = option(decorated)
    return decorated
