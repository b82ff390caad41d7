"""A request's path and query, read into what they mean: a resource, a name, a verb. Pure."""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

from local.kubernetes_api import statuses
from local.kubernetes_api.resources import Resource
from local.kubernetes_api.store import Key

TABLE_MEDIA_TYPE = "as=Table"


@dataclass(frozen=True)
class Request:
    """One request to a resource. `namespace` is None across namespaces, and empty for what is cluster-wide."""

    method: str
    resource: Resource
    namespace: str | None
    name: str
    subresource: str
    query: dict[str, str]

    @property
    def key(self) -> Key:
        return Key(self.resource.key, self.namespace or "", self.name)

    @property
    def verb(self) -> str:
        """The API's verb: a GET is get, list or watch."""
        if self.method == "GET":
            if self.flag("watch"):
                return "watch"
            return "get" if self.name else "list"
        if self.method == "DELETE":
            return "delete" if self.name else "deletecollection"
        return {"POST": "create", "PUT": "update", "PATCH": "patch"}.get(self.method, self.method.lower())

    def flag(self, name: str) -> bool:
        return self.query.get(name, "").lower() in ("1", "true")

    def number(self, name: str) -> int | None:
        """The parameter as a whole number, None where it is absent or empty; BadRequest for anything else."""
        text = self.query.get(name, "")
        if not text:
            return None
        if not text.isdigit():
            raise statuses.bad_request(f'{name}: Invalid value: "{text}": must be a whole number')
        return int(text)


def split_target(target: str) -> tuple[list[str], dict[str, str]]:
    """The path's segments and the query's last values."""
    parts = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    return [unquote(each) for each in parts.path.split("/") if each], query


def parse_request(method: str, segments: list[str], query: dict[str, str], resources: Iterable[Resource]) -> Request:
    """Reads /api/v1/… and /apis/group/version/…; NotFound for a path that names no resource."""
    group, version, rest = _group_version(segments)
    namespace: str | None = None
    if len(rest) >= 3 and rest[0] == "namespaces" and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    if not rest or len(rest) > 3:
        raise statuses.path_not_found()
    plural, name, subresource = (*rest, "", "")[:3]
    for resource in resources:
        if (resource.group, resource.version, resource.plural) == (group, version, plural):
            inside = namespace if resource.namespaced else ""
            return Request(method, resource, inside, name, subresource, query)
    raise statuses.path_not_found()


def _group_version(segments: list[str]) -> tuple[str, str, list[str]]:
    if segments[:1] == ["api"] and len(segments) > 2:
        return "", segments[1], segments[2:]
    if segments[:1] == ["apis"] and len(segments) > 3:
        return segments[1], segments[2], segments[3:]
    raise statuses.path_not_found()


def continue_token(version: int, last: Key) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([version, *last])).decode()


def read_continue_token(token: str) -> tuple[int, Key]:
    try:
        version, resource, namespace, name = orjson.loads(base64.urlsafe_b64decode(token))
    except (binascii.Error, ValueError) as error:
        raise statuses.bad_request(f"continue key is not valid: {error}") from error
    return int(version), Key(resource, namespace, name)
