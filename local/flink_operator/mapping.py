"""From what a pod would see to folders and programs of this machine: images, mounts and init containers. Nothing else
of Headrace does such a mapping.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyflink

CHECKOUT = Path(__file__).parent.parent.parent
PYFLINK = Path(pyflink.__file__).parent
MAIN_CONTAINER = "flink-main-container"
MERGE_BY_NAME = "kubernetes.operator.pod-template.merge-arrays-by-name"
OPT = "/opt/flink/opt"


class Reference(NamedTuple):
    """A variable's value: `kind` is secrets or configmaps."""

    kind: str
    name: str
    key: str
    optional: bool


@dataclass(frozen=True)
class Container:
    """One container of a pod, and its paths on this machine. `command` and `env` are as the pod template has them;
    `references` are variables whose values stand in a Secret or ConfigMap; `env_from` whole Secrets and ConfigMaps."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    paths: Mapping[str, str]
    references: Mapping[str, Reference] = field(default_factory=dict)
    env_from: Sequence[Mapping[str, Any]] = ()

    def mapped(self, text: str) -> str:
        """The text with the longest path of the pod that begins a word of it replaced."""
        for path in sorted(self.paths, key=len, reverse=True):
            for lead in ("", "file://", "local://"):
                if text == lead + path or text.startswith(f"{lead}{path}/"):
                    return lead + self.paths[path] + text[len(lead + path) :]
        return text


@dataclass(frozen=True)
class Filled:
    """A volume that is filled from a ConfigMap or Secret before the pod starts; `items` are its keys' paths."""

    kind: str
    name: str
    folder: Path
    items: Mapping[str, str]
    optional: bool = False


@dataclass(frozen=True)
class PodView:
    """What the JobManager's pod would hold."""

    main: Container
    init: Sequence[Container]
    filled: Sequence[Filled]


def image_paths() -> dict[str, str]:
    """What the image holds, by the paths it has there (flink_app/Dockerfile)."""
    programs = ("entrypoint.py", "sql_runner.py", "quiet.properties")
    modules = ("__init__.py", "flink_sql.py", "secret_names.py")
    return {
        **{f"/opt/headrace/{name}": str(CHECKOUT / "flink_app" / name) for name in programs},
        **{f"/opt/headrace/flink_app/{name}": str(CHECKOUT / "flink_app" / name) for name in modules},
        "/opt/headrace/flink-python.jar": str(next((PYFLINK / "opt").glob("flink-python-*.jar"))),
        OPT: str(PYFLINK / "opt"),
        "/opt/flink/lib": str(PYFLINK / "lib"),
    }


def image_opt() -> dict[str, Path]:
    """What the image has in Flink's opt, by name: Flink's own files, and whatever else an image path puts there."""
    flinks = {file.name: file for file in (PYFLINK / "opt").iterdir()}
    ours = {path: Path(place) for path, place in image_paths().items() if path.startswith(f"{OPT}/")}
    return flinks | {path.removeprefix(f"{OPT}/"): place for path, place in ours.items()}


def pod_view(spec: Mapping[str, Any], folder: Path) -> PodView:
    """The JobManager's pod of a FlinkDeployment's spec, with its volumes below `folder`.

    TaskManagers run in the same folders: their init containers would fetch the same jars to the same place.
    """
    return view_of(merged_pod_spec(spec), folder, {})


def view_of(pod: Mapping[str, Any], folder: Path, fields: Mapping[str, str]) -> PodView:
    """A pod by its own spec, with its volumes below `folder`; `fields` are what its variables may name of itself."""
    volumes, filled = _volumes(pod, folder)
    main: Mapping[str, Any] = next((c for c in pod.get("containers") or [] if c["name"] == MAIN_CONTAINER), {})
    return PodView(
        main=_container(MAIN_CONTAINER, main, volumes, folder, fields),
        init=[_container(c["name"], c, volumes, folder, fields) for c in pod.get("initContainers") or []],
        filled=filled,
    )


def merged_pod_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The JobManager's pod spec of the two templates, merged as the operator merges them: lists by position, or by
    name where the deployment's configuration asks for that (docs/content/docs/custom-resource/pod-template.md)."""
    shared, own = (part.get("podTemplate") or {} for part in (spec, spec.get("jobManager") or {}))
    by_name = (spec.get("flinkConfiguration") or {}).get(MERGE_BY_NAME) == "true"
    merged: dict[str, Any] = _merged(shared.get("spec") or {}, own.get("spec") or {}, by_name)
    return merged


def _merged(to: Any, added: Any, by_name: bool) -> Any:
    if isinstance(to, Mapping) and isinstance(added, Mapping):
        return {**to, **{k: _merged(to[k], v, by_name) if k in to else v for k, v in added.items()}}
    if isinstance(to, list) and isinstance(added, list):
        return _merged_lists(to, added, by_name)
    return added


def _merged_lists(to: list[Any], added: list[Any], by_name: bool) -> list[Any]:
    if by_name and all(isinstance(each, Mapping) and "name" in each for each in [*to, *added]):
        named = {each["name"]: each for each in to}
        return list((named | {a["name"]: _merged(named.get(a["name"], {}), a, by_name) for a in added}).values())
    both = [_in_place(one, other, by_name) for one, other in zip(to, added, strict=False)]
    return [*both, *to[len(both) :], *added[len(both) :]]


def _in_place(one: Any, other: Any, by_name: bool) -> Any:
    """Two elements at one position: the operator merges objects there, and leaves text as it was."""
    return _merged(one, other, by_name) if isinstance(one, Mapping) else one


def _volumes(pod: Mapping[str, Any], folder: Path) -> tuple[dict[str, Path], list[Filled]]:
    volumes: dict[str, Path] = {}
    filled: list[Filled] = []
    for volume in pod.get("volumes") or []:
        name = volume["name"]
        volumes[name] = folder / "volumes" / name
        if "hostPath" in volume:
            volumes[name] = Path(volume["hostPath"]["path"])
        elif "persistentVolumeClaim" in volume:
            volumes[name] = folder.parent / "claims" / volume["persistentVolumeClaim"]["claimName"]
        elif "configMap" in volume or "secret" in volume:
            filled.append(_filled(volume, volumes[name]))
        volumes[name].mkdir(parents=True, exist_ok=True)
    return volumes, filled


def _filled(volume: Mapping[str, Any], folder: Path) -> Filled:
    kind = "configmaps" if "configMap" in volume else "secrets"
    source = volume.get("configMap") or volume["secret"]
    items = {item["key"]: item["path"] for item in source.get("items") or []}
    name = source.get("name") or source.get("secretName")
    return Filled(kind, name, folder, items, bool(source.get("optional")))


def _container(
    name: str, part: Mapping[str, Any], volumes: Mapping[str, Path], folder: Path, fields: Mapping[str, str]
) -> Container:
    mounts = {
        mount["mountPath"].rstrip("/"): str(volumes[mount["name"]] / mount.get("subPath", ""))
        for mount in part.get("volumeMounts") or []
        if mount["name"] in volumes
    }
    paths = {**image_paths(), **mounts, "/dev/termination-log": str(folder / f"termination-{name}")}
    listed = part.get("env") or []
    env = {each["name"]: _value(each, fields) for each in listed if not _is_reference(each)}
    references = {each["name"]: _reference(each["valueFrom"]) for each in listed if _is_reference(each)}
    command = [*(part.get("command") or []), *(part.get("args") or [])]
    return Container(name, command, env, paths, references, part.get("envFrom") or [])


def _is_reference(variable: Mapping[str, Any]) -> bool:
    return not {"secretKeyRef", "configMapKeyRef"}.isdisjoint(variable.get("valueFrom") or {})


def _value(variable: Mapping[str, Any], fields: Mapping[str, str]) -> str:
    """As it is written, or a field of the pod; what a laptop's pod has not is empty."""
    field_path = (variable.get("valueFrom") or {}).get("fieldRef", {}).get("fieldPath", "")
    return fields.get(field_path, "") if field_path else str(variable.get("value", ""))


def _reference(source: Mapping[str, Any]) -> Reference:
    kind, key = ("secrets", "secretKeyRef") if "secretKeyRef" in source else ("configmaps", "configMapKeyRef")
    return Reference(kind, source[key]["name"], source[key]["key"], bool(source[key].get("optional")))


def program(word: str) -> str:
    """`python3` of the image is this environment's Python."""
    return sys.executable if word in ("python3", "python", "/usr/bin/python3") else word
