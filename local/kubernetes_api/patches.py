"""JSON patch (RFC 6902) and JSON merge patch (RFC 7386), as pure functions on decoded JSON."""

import copy
from typing import Any


class UnusablePatchError(Exception):
    """An operation's path does not exist, or a `test` failed."""


def merge_patch(target: Any, patch: Any) -> Any:
    """`target` with `patch` merged in: null removes, lists are replaced whole."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def json_patch(target: Any, operations: list[dict[str, Any]]) -> Any:
    """`target` with all operations applied, or UnusablePatchError and nothing applied."""
    document = copy.deepcopy(target)
    for operation in operations:
        try:
            document = _apply(document, operation)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise UnusablePatchError(f"{operation.get('op')} {operation.get('path')}: {error}") from error
    return document


def _apply(document: Any, operation: dict[str, Any]) -> Any:
    kind, path = operation["op"], _tokens(operation["path"])
    if kind == "test":
        return _test(document, path, operation.get("value"))
    if kind == "remove":
        _remove(document, path)
    elif kind == "replace":
        # The real server takes a replace of an absent key as an add; only the parent must be there.
        return _put(document, path, operation["value"], insert=False)
    elif kind == "add":
        return _put(document, path, operation["value"], insert=True)
    elif kind == "move":
        return _put(document, path, _remove(document, _tokens(operation["from"])), insert=True)
    elif kind == "copy":
        return _put(document, path, copy.deepcopy(_get(document, _tokens(operation["from"]))), insert=True)
    else:
        raise ValueError(f"unexpected kind: {kind}")
    return document


def _tokens(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise ValueError(f"path {path!r} does not start with /")
    return [each.replace("~1", "/").replace("~0", "~") for each in path.split("/")[1:]]


def _step(node: Any, token: str) -> Any:
    return node[_index(node, token)] if isinstance(node, list) else node[token]


def _index(node: list[Any], token: str) -> int:
    index = int(token)
    if not 0 <= index < len(node):
        raise IndexError(token)
    return index


def _get(document: Any, path: list[str]) -> Any:
    for token in path:
        document = _step(document, token)
    return document


def _put(document: Any, path: list[str], value: Any, *, insert: bool) -> Any:
    if not path:
        return value
    parent, last = _get(document, path[:-1]), path[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif not isinstance(parent, list):
        raise TypeError(f"no field {last} in a {type(parent).__name__}")
    elif not insert:
        parent[_index(parent, last)] = value
    elif last == "-" or int(last) == len(parent):
        parent.append(value)
    else:
        parent.insert(_index(parent, last), value)
    return document


def _remove(document: Any, path: list[str]) -> Any:
    parent, last = _get(document, path[:-1]), path[-1]
    return parent.pop(_index(parent, last)) if isinstance(parent, list) else parent.pop(last)


def _test(document: Any, path: list[str], value: Any) -> Any:
    try:
        found = _get(document, path)
    except (KeyError, IndexError):
        if value is None:
            return document
        raise
    if found != value or isinstance(found, bool) != isinstance(value, bool):
        raise ValueError("test failed")
    return document
