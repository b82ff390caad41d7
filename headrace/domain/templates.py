"""Templates: what jobs are made from, in immutable versions, with declared parameters. No I/O here.

A submit resolves a template, its parameters' values and its overrides (`job_config`) into a JobRequest, which the
operation and the job carry whole, so that a template that changes later changes no job.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any

from pydantic import Field, ValidationError

from headrace.domain.job_requests import JobRequest, parse_request, recorded_request
from headrace.domain.parameters import Parameter, checked_values, declaration_problems, examples_in, substituted
from headrace.domain.secrets import shown_name
from headrace.domain.sources import Part
from headrace.domain.validation import matching, naming, problems_of, unknown
from headrace.errors import MOST_PROBLEMS, InvalidRequest

TemplateId = Annotated[str, naming(100)]
ParameterName = Annotated[
    str, matching(r"[A-Za-z_][A-Za-z0-9_]{0,99}", "must be letters, digits and '_', no digit first")
]


class Template(Part):
    """One immutable version of a template. `version` is set by the store, from 1; `body` is as it was registered,
    with its `${parameters}` in place."""

    template_id: TemplateId
    version: int = Field(1, ge=1)
    parameters: Mapping[ParameterName, Parameter] = Field(default_factory=dict)
    body: Mapping[str, Any]

    def is_like(self, other: Template) -> bool:
        """Whether both say the same, whatever their versions."""
        return (self.template_id, self.parameters, self.body) == (other.template_id, other.parameters, other.body)


OVERRIDABLE = frozenset({*JobRequest.model_fields, "script_path"}) - {"type", "namespace"}
"""What job_config may set; `env`, `labels`, `flink_configuration`, `resources` and `pod` are merged, others are not."""

_MERGED = ("env", "labels", "flink_configuration", "resources", "pod")
_SHALLOW = ("env", "flink_configuration")
"""Of these a value is replaced whole: a reference is no part of a text, and its user's word goes with its text."""
_TEMPLATE_FIELDS = ("template_id", "parameters", "version")


def parse_template(body: Mapping[str, Any]) -> Template:
    """A template from its YAML or JSON form (the fields of JobRequest beside template_id and parameters).

    The whole is checked with the parameters' defaults and examples of those that have none. Raises InvalidRequest.
    """
    fields = {key: value for key, value in body.items() if key not in _TEMPLATE_FIELDS}
    try:
        template = Template.model_validate(
            {"template_id": body.get("template_id"), "parameters": body.get("parameters") or {}, "body": fields}
        )
    except ValidationError as error:
        raise InvalidRequest(problems_of(error, Template)) from error
    problems = declaration_problems(template.parameters, fields)
    if problems:
        raise InvalidRequest(problems)
    request = _checked_with_examples(template, fields)
    if not template.parameters:
        fields = request.as_given()
    return template.model_copy(update={"body": fields})


def _checked_with_examples(template: Template, fields: Mapping[str, Any]) -> JobRequest:
    try:
        return parse_request(substituted(fields, template.parameters, _examples(template)), more=_TEMPLATE_FIELDS)
    except InvalidRequest as error:
        made_up = examples_in(template.parameters, fields)
        raise InvalidRequest({f: words + made_up.get(f, "") for f, words in error.problems.items()}) from error


def _examples(template: Template) -> dict[str, Any]:
    """A value for each parameter: enough to see whether the rest of a template holds."""
    by_type: Mapping[str, Any] = {"STRING": "example", "INTEGER": 1, "NUMBER": 1.5, "BOOLEAN": True}
    return {
        name: parameter.default
        if parameter.default is not None
        else (parameter.allowed_values or (by_type[parameter.type],))[0]
        for name, parameter in template.parameters.items()
    }


def example_of(template: Template) -> JobRequest:
    """The request that a parsed template gives with its defaults, and examples of parameters that have none."""
    return recorded_request(substituted(template.body, template.parameters, _examples(template)))


def template_body(template: Template) -> dict[str, Any]:
    """The JSON form that parse_template takes, with its version."""
    parameters = {name: p.model_dump(mode="json", exclude_none=True) for name, p in template.parameters.items()}
    named = {"template_id": template.template_id, "version": template.version}
    return {**named, **({"parameters": parameters} if parameters else {}), **template.body}


def resolve(
    template: Template | None, job_config: Mapping[str, Any], parameters: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The body of the request that a template, its parameters' values and overrides give, not yet validated whole.

    Raises InvalidRequest, fields named `job_config.…` and `parameters.…`.
    """
    allowed = OVERRIDABLE if template else OVERRIDABLE | {"type"}
    strangers = islice((key for key in job_config if key not in allowed), MOST_PROBLEMS + 1)
    problems = {f"job_config.{shown_name(key)}": unknown(key, allowed) for key in strangers}
    values, wrong = checked_values(template.parameters if template else {}, parameters or {})
    problems |= {f"parameters.{shown_name(name)}": words for name, words in wrong.items()}
    if problems:
        raise InvalidRequest(problems)
    body = substituted(template.body, template.parameters, values) if template else {}
    for key, value in job_config.items():
        body[key] = merged(body.get(key), value, deep=key not in _SHALLOW) if key in _MERGED else value
    for one, other in (("sql", "script"), ("script", "sql")):
        if one in job_config and other not in job_config:
            body.pop(other, None)  # the one takes the other's place
    return body


Paths = Sequence[Sequence[str]]
"""Places in a request, as keys from its root: a key may have dots in it."""


PARALLELISM, REPLICAS = ("parallelism",), ("resources", "task_manager", "replicas")


def overridden(job_config: Mapping[str, Any]) -> list[list[str]]:
    """The places of a request at which `resolve` lets these overrides stand above the template."""
    return [list(path) for key, value in job_config.items() for path in _places(key, value)]


def _places(key: str, value: Any) -> Iterator[tuple[str, ...]]:
    if key in _MERGED and isinstance(value, Mapping):
        for name, below in value.items():
            deeper = _leaves(below) if key not in _SHALLOW else [()]
            yield from ((key, str(name), *path) for path in deeper)
    else:
        yield (key,)


def _leaves(value: Any) -> Iterable[tuple[str, ...]]:
    if not isinstance(value, Mapping):
        return [()]
    return [(str(name), *path) for name, below in value.items() for path in _leaves(below)]


def picked(request: Mapping[str, Any], paths: Paths) -> dict[str, Any]:
    """What stands at these places of a request, as overrides of a template; what is not there is left out."""
    found: dict[str, Any] = {}
    for path in paths:
        value: Any = request
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            _put(found, path, value)
    return found


def _put(into: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for key in path[:-1]:
        into = into.setdefault(key, {})
    into[path[-1]] = value


def changed(request: Mapping[str, Any], job_config: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a recorded request with these overrides, not yet validated whole. Of parallelism and replicas, which
    say the same, the one that is not named follows the other. Raises InvalidRequest, fields named `job_config.…`."""
    named = {tuple(path) for path in overridden(job_config)}
    body = resolve(Template(template_id="job", body=request), job_config)
    if PARALLELISM in named and REPLICAS not in named:
        return _without(body, REPLICAS)
    if picked(body, [REPLICAS]) and PARALLELISM not in named:
        return _without(body, PARALLELISM)
    return body


def scale_of(request: Mapping[str, Any]) -> Sequence[str]:
    """The place in a request that says at which scale its job runs."""
    return REPLICAS if picked(request, [REPLICAS]) else PARALLELISM


def _without(body: Mapping[str, Any], path: Sequence[str]) -> dict[str, Any]:
    key, *deeper = path
    if not deeper:
        return {name: value for name, value in body.items() if name != key}
    below = body.get(key)
    return {**body, key: _without(below, deeper)} if isinstance(below, Mapping) else dict(body)


def parse_resolved(body: Mapping[str, Any]) -> JobRequest:
    """What `resolve` gave, validated. Raises InvalidRequest, fields named `job_config.…`."""
    return parse_request(body, "job_config.")


def merged(below: Any, above: Any, *, deep: bool = True) -> Any:
    """`above` laid over `below`, key by key, at every depth or the first alone; all but two objects are replaced."""
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        return {**below, **{key: merged(below.get(key), value) if deep else value for key, value in above.items()}}
    return above
