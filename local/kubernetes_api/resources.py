"""Which resources the API serves: a table for the built-in ones, and what the CRD files in `local/crds` define."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]

CRDS_DIRECTORY = Path(__file__).parent.parent / "crds"
VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
READ_VERBS = ("get", "list", "watch")
ALL = ("all",)
"""The category that `kubectl get all` asks for."""


@dataclass(frozen=True)
class Resource:
    """One kind at one version. `schema` is None where fields are taken as they come."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    status: bool = False
    generation: bool = False
    returns_deleted: bool = False
    verbs: tuple[str, ...] = VERBS
    custom: bool = False
    schema: Json | None = field(default=None, compare=False)
    columns: tuple[Json, ...] = field(default=(), compare=False)

    @property
    def key(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular(self) -> str:
        return self.kind.lower()

    def path(self, namespace: str | None, name: str | None = None) -> str:
        base = f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"
        inside = f"/namespaces/{namespace}" if namespace else ""
        return f"{base}{inside}/{self.plural}" + (f"/{name}" if name else "")


BUILT_IN = (
    Resource("", "v1", "namespaces", "Namespace", namespaced=False, short_names=("ns",), status=True),
    Resource(
        "",
        "v1",
        "pods",
        "Pod",
        short_names=("po",),
        categories=ALL,
        status=True,
        generation=True,
        returns_deleted=True,
    ),
    Resource("", "v1", "configmaps", "ConfigMap", short_names=("cm",)),
    Resource("", "v1", "services", "Service", short_names=("svc",), categories=ALL, status=True, returns_deleted=True),
    Resource("", "v1", "serviceaccounts", "ServiceAccount", short_names=("sa",), returns_deleted=True),
    Resource("", "v1", "secrets", "Secret"),
    Resource("", "v1", "events", "Event", short_names=("ev",)),
    Resource(
        "apps",
        "v1",
        "deployments",
        "Deployment",
        short_names=("deploy",),
        categories=ALL,
        status=True,
        generation=True,
    ),
    Resource(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        namespaced=False,
        short_names=("crd", "crds"),
        verbs=READ_VERBS,
    ),
)


def load_definitions(directory: Path = CRDS_DIRECTORY) -> list[Json]:
    """The CustomResourceDefinitions in the folder's files, in the order of their names."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    # CSafeLoader only builds plain values, as SafeLoader does; it is ten times faster on half a megabyte.
    return [yaml.load(each.read_bytes(), loader) for each in sorted(directory.glob("*.yml"))]  # noqa: S506


def custom_resources(definitions: Iterable[Json]) -> list[Resource]:
    """The served versions of the given definitions."""
    return [
        _custom_resource(definition["spec"], version)
        for definition in definitions
        for version in definition["spec"]["versions"]
        if version["served"]
    ]


def _custom_resource(spec: Json, version: Json) -> Resource:
    names = spec["names"]
    return Resource(
        spec["group"],
        version["name"],
        names["plural"],
        names["kind"],
        namespaced=spec["scope"] == "Namespaced",
        short_names=tuple(names.get("shortNames", ())),
        status="status" in version.get("subresources", {}),
        generation=True,
        custom=True,
        schema=version["schema"]["openAPIV3Schema"],
        columns=tuple(version.get("additionalPrinterColumns", ())),
    )
