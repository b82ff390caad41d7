"""Label and field selectors, parsed once into predicates over decoded objects."""

import re
from collections.abc import Callable
from typing import Any

from local.kubernetes_api.statuses import bad_request

Json = dict[str, Any]
Predicate = Callable[[Json], bool]

_IN_SET = re.compile(r"^\s*(\S+)\s+(in|notin)\s*\(([^)]*)\)\s*$")
_COMPARISON = re.compile(r"^\s*([^!=\s]+)\s*(==|=|!=)\s*([^=\s]*)\s*$")
_EXISTENCE = re.compile(r"^\s*(!?)\s*([^!=\s]+)\s*$")
_BETWEEN_TERMS = re.compile(r",(?![^(]*\))")
COMMON_FIELDS = frozenset({"metadata.name", "metadata.namespace"})
KIND_FIELDS = {
    "Pod": frozenset({"status.phase", "spec.nodeName"}),
    "Event": frozenset({f"involvedObject.{each}" for each in ("kind", "namespace", "name", "uid", "apiVersion")})
    | {"reason", "type", "involvedObject.resourceVersion", "involvedObject.fieldPath"},
    "Secret": frozenset({"type"}),
}


def label_selector(text: str) -> list[Predicate]:
    """Predicates that must all hold; BadRequest for what cannot be parsed."""
    return [_label_term(term) for term in _BETWEEN_TERMS.split(text) if term.strip()]


def _label_term(term: str) -> Predicate:
    if found := _IN_SET.match(term):
        key, operator, listed = found.groups()
        values = {each.strip() for each in listed.split(",")}
        return _membership(key, values, wanted=operator == "in")
    if found := _COMPARISON.match(term):
        key, operator, value = found.groups()
        return _membership(key, {value}, wanted=operator != "!=")
    if found := _EXISTENCE.match(term):
        absent, key = found.groups()
        return lambda body: (key in _labels(body)) is not bool(absent)
    raise bad_request(f"unable to parse requirement: {term!r}")


def _membership(key: str, values: set[str], *, wanted: bool) -> Predicate:
    return lambda body: (_labels(body).get(key) in values) is wanted


def _labels(body: Json) -> Json:
    return body["metadata"].get("labels") or {}


def field_selector(text: str, kind: str) -> list[Predicate]:
    """Predicates for the fields that the real server supports for this kind; BadRequest for another field."""
    return [_field_term(term, COMMON_FIELDS | KIND_FIELDS.get(kind, frozenset())) for term in text.split(",") if term]


def _field_term(term: str, supported: frozenset[str]) -> Predicate:
    found = _COMPARISON.match(term)
    if found is None:
        raise bad_request(f"invalid selector: {term!r}; can't understand {term!r}")
    path, operator, value = found.groups()
    if path not in supported:
        raise bad_request(f"field label not supported: {path}")
    wanted = operator != "!="
    return lambda body: (_at(body, path.split(".")) == value) is wanted


def _at(body: Any, path: list[str]) -> str:
    for name in path:
        body = body.get(name) if isinstance(body, dict) else None
    return "" if body is None else str(body)
