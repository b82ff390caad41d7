"""What kubectl and client libraries ask before they do anything: versions, groups, resources, and OpenAPI in brief.

The OpenAPI documents name the kinds and the verbs' parameters, not the fields: field errors come from the server.
"""

from collections.abc import Iterable
from typing import Any

from local.kubernetes_api.resources import Resource

Json = dict[str, Any]

VERSION: Json = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.4+headrace-local",
    "gitCommit": "",
    "gitTreeState": "",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
CORE_VERSIONS: Json = {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def groups(resources: Iterable[Resource]) -> Json:
    """The body of GET /apis."""
    named = sorted({(each.group, each.version) for each in resources if each.group})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group(name, version) for name, version in named]}


def group(name: str, version: str) -> Json:
    served = {"groupVersion": f"{name}/{version}", "version": version}
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": [served], "preferredVersion": served}


def resource_list(api_version: str, resources: Iterable[Resource]) -> Json:
    """The body of GET /api/v1 or /apis/group/version."""
    entries = [entry for each in resources if each.api_version == api_version for entry in _entries(each)]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": entries}


def _entries(resource: Resource) -> list[Json]:
    base = {"namespaced": resource.namespaced, "kind": resource.kind}
    main: Json = {"name": resource.plural, "singularName": resource.singular, "verbs": list(resource.verbs)} | base
    if resource.short_names:
        main["shortNames"] = list(resource.short_names)
    if resource.categories:
        main["categories"] = list(resource.categories)
    subresources = (["status"] if resource.status else []) + (["log"] if resource.kind == "Pod" else [])
    return [main] + [
        base | {"name": f"{resource.plural}/{each}", "singularName": "", "verbs": _subresource_verbs(each)}
        for each in subresources
    ]


def _subresource_verbs(subresource: str) -> list[str]:
    return ["get"] if subresource == "log" else ["get", "patch", "update"]


def openapi_v3_index(resources: Iterable[Resource]) -> Json:
    paths = sorted({_group_path(each) for each in resources})
    return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}"} for path in paths}}


def openapi_v3(path: str, resources: Iterable[Resource]) -> Json:
    """The document of one group and version; kubectl looks in it for `fieldValidation` before it creates."""
    found = [each for each in resources if _group_path(each) == path]
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]},
        "paths": {_item_path(each): {"patch": _patch_operation(each)} for each in found},
        "components": {"schemas": {_schema_name(each): _kind_schema(each) for each in found}},
    }


def openapi_v2(resources: Iterable[Resource]) -> Json:
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]},
        "paths": {},
        "definitions": {_schema_name(each): _kind_schema(each) for each in resources},
    }


def _group_path(resource: Resource) -> str:
    return f"apis/{resource.api_version}" if resource.group else f"api/{resource.version}"


def _item_path(resource: Resource) -> str:
    return resource.path("{namespace}" if resource.namespaced else None, "{name}")


def _group_version_kind(resource: Resource) -> Json:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _patch_operation(resource: Resource) -> Json:
    names = ("dryRun", "fieldManager", "fieldValidation")
    return {
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": _group_version_kind(resource),
        "parameters": [{"name": each, "in": "query", "schema": {"type": "string"}} for each in names],
        "responses": {"200": {"description": "OK"}},
    }


def _schema_name(resource: Resource) -> str:
    return f"io.headrace.local.{resource.group or 'core'}.{resource.version}.{resource.kind}"


def _kind_schema(resource: Resource) -> Json:
    return {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
        "x-kubernetes-group-version-kind": [_group_version_kind(resource)],
    }
