"""What a kubelet does before a container starts: volumes are filled, and variables get their values from Secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from local.flink_operator.mapping import Container, Filled, Reference, program

DataOf = Callable[[str, str], Mapping[str, bytes] | None]
"""A ConfigMap's or Secret's data by kind (configmaps, secrets) and name, or None."""


class NotThere(Exception):
    """A container cannot be configured. The words are a kubelet's, as its pod's state has them."""


def fill(filled: Filled, data_of: DataOf) -> bool:
    """Writes the volume's files; False while its source is not there: the pod waits, as a kubelet does."""
    data = data_of(filled.kind, filled.name)
    if data is None:
        return filled.optional
    for key, content in data.items():
        if filled.items and key not in filled.items:
            continue
        to = filled.folder / filled.items.get(key, key)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(content)
    return True


def variables(container: Container, data_of: DataOf) -> dict[str, str]:
    """A container's environment. Raises NotThere."""
    found: dict[str, str] = {}
    for source in container.env_from:
        found |= _all_of(source, data_of)
    for name, reference in container.references.items():
        data = data_of(reference.kind, reference.name)
        if data is not None and reference.key in data:
            found[name] = data[reference.key].decode()
        elif not reference.optional:
            raise NotThere(_missing(reference, is_there=data is not None))
    for name, text in container.env.items():
        found[name] = container.mapped(expanded(text, found))
    return found


def _missing(reference: Reference, *, is_there: bool) -> str:
    kind = "Secret" if reference.kind == "secrets" else "ConfigMap"
    if is_there:
        return f"couldn't find key {reference.key} in {kind} {reference.name}"
    return f'{kind.lower()} "{reference.name}" not found'


def command(container: Container, known: Mapping[str, str]) -> list[str]:
    """A container's command, where these are its variables."""
    return [program(container.mapped(expanded(word, known))) for word in container.command]


def expanded(text: str, known: Mapping[str, str]) -> str:
    """What Kubernetes makes of a value or a word: `$$` is `$`, and `$(X)` what is known of X, or stays as it is."""
    return _REFERENCE.sub(lambda found: _meant(found, known), text)


def _meant(found: re.Match[str], known: Mapping[str, str]) -> str:
    return "$" if found[0] == "$$" else known.get(found[1], found[0])


_REFERENCE = re.compile(r"\$\$|\$\(([^)]*)\)")


def _all_of(source: Mapping[str, Mapping[str, object]], data_of: DataOf) -> dict[str, str]:
    kind, field = ("secrets", "secretRef") if "secretRef" in source else ("configmaps", "configMapRef")
    reference = source[field]
    data = data_of(kind, str(reference["name"]))
    if data is None and not reference.get("optional"):
        raise NotThere(f'{kind.removesuffix("s").replace("map", "Map")} "{reference["name"]}" not found')
    return {f"{source.get('prefix') or ''}{key}": text.decode() for key, text in (data or {}).items()}
