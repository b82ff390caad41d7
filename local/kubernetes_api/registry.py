"""What the API server does to objects: create, update, patch, delete and collect garbage, with its rules and refusals.

It knows no HTTP. Foreground deletion removes the dependents first; it does not wait for their finalizers.
"""

import re
import secrets
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from local.kubernetes_api import schema as schemas
from local.kubernetes_api import statuses
from local.kubernetes_api.resources import BUILT_IN, Resource, custom_resources
from local.kubernetes_api.statuses import Cause
from local.kubernetes_api.store import Key, Store, Stored

Json = dict[str, Any]

_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_NAME_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
SERVER_SET = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")
NAMESPACES, DEFINITIONS = "namespaces", "customresourcedefinitions.apiextensions.k8s.io"
EVENTS = "events"
MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


@dataclass
class WriteOptions:
    """Query parameters of a write; `warnings` are filled while it is done. `field_validation` is lower case."""

    dry_run: bool = False
    field_validation: str = "warn"
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class DeleteOptions:
    """Body and query of a delete."""

    dry_run: bool = False
    uid: str | None = None
    resource_version: str | None = None
    propagation: str = "Background"


class Registry:
    """All resources over one store. Every write holds the store's lock from its checks to its end."""

    def __init__(self, store: Store, definitions: Iterable[Json]) -> None:
        self.store = store
        definitions = list(definitions)
        self.resources = {each.key: each for each in (*BUILT_IN, *custom_resources(definitions))}
        with store.lock:
            for definition in definitions:
                self._publish_definition(definition)
            for name in ("default", "kube-system"):
                self._ensure_namespace(name)

    def get(self, resource: Resource, namespace: str, name: str) -> Stored:
        stored = self.store.get(Key(resource.key, namespace, name))
        if stored is None:
            raise statuses.not_found(resource.group, resource.plural, name)
        return stored

    def create(self, resource: Resource, namespace: str, body: Json, options: WriteOptions) -> Stored:
        body = self._decoded(resource, body, options)
        metadata = self._metadata_for_create(resource, namespace, body["metadata"])
        body = _initial(resource, body | {"metadata": metadata})
        self._validate(resource, body)
        with self.store.lock:
            return self._insert(resource, Key(resource.key, namespace, metadata["name"]), body, options)

    def _insert(self, resource: Resource, key: Key, body: Json, options: WriteOptions) -> Stored:
        if self.store.get(key) is not None:
            raise statuses.already_exists(resource.group, resource.plural, key.name)
        if options.dry_run:
            return Stored(0, body, b"")
        if key.namespace:
            self._ensure_namespace(key.namespace)
        stored = self.store.put(key, body)
        self._collect_if_orphaned(key, stored)
        return stored

    def update(
        self,
        resource: Resource,
        key: Key,
        change: Callable[[Json], Json],
        options: WriteOptions,
        *,
        subresource: str = "",
        is_patch: bool = False,
    ) -> Stored:
        """Replaces the object by `change(object)`; writes nothing where that makes no difference."""
        with self.store.lock:
            before = self.get(resource, key.namespace, key.name)
            wanted = self._decoded(resource, change(before.body), options, is_patch=is_patch)
            _check_identity(resource, before.body, wanted)
            _check_preconditions(resource, before.body, wanted["metadata"], is_patch=is_patch)
            after = _merged_by_subresource(resource, before.body, wanted, subresource)
            self._validate(resource, after)
            return self._replace(key, before, after, options)

    def _replace(self, key: Key, before: Stored, after: Json, options: WriteOptions) -> Stored:
        if after == before.body:
            return before
        if options.dry_run:
            return Stored(before.version, after, b"")
        if "deletionTimestamp" in after["metadata"] and not after["metadata"].get("finalizers"):
            return self._remove(key, after)
        return self.store.put(key, after)

    def delete(self, resource: Resource, key: Key, options: DeleteOptions) -> tuple[Stored, bool]:
        """The object's last state, and whether it is gone (else finalizers hold it)."""
        with self.store.lock:
            stored = self.get(resource, key.namespace, key.name)
            _check_delete_preconditions(resource, stored.body, options)
            if options.dry_run:
                return stored, True
            if options.propagation == "Orphan":
                self._orphan_dependents(stored.body["metadata"]["uid"])
            elif options.propagation == "Foreground":
                self._collect_dependents(stored.body["metadata"]["uid"])
            return self._delete(resource, key, stored)

    def _delete(self, resource: Resource, key: Key, stored: Stored) -> tuple[Stored, bool]:
        metadata = stored.body["metadata"]
        if not metadata.get("finalizers"):
            return self._remove(key, stored.body), True
        if "deletionTimestamp" in metadata:
            return stored, False
        marked = metadata | {"deletionTimestamp": _now(), "deletionGracePeriodSeconds": 0}
        if resource.generation:
            marked["generation"] = metadata.get("generation", 0) + 1
        return self.store.put(key, stored.body | {"metadata": marked}), False

    def _remove(self, key: Key, last: Json) -> Stored:
        removed = self.store.remove(key, last)
        if key.resource == NAMESPACES:
            self._empty_namespace(key.name)
        self._collect_dependents(last["metadata"]["uid"])
        return removed

    def _empty_namespace(self, namespace: str) -> None:
        for key, stored in self.store.all():
            if key.namespace == namespace and self.store.get(key) is not None:
                self._delete(self.resources[key.resource], key, stored)

    def _collect_dependents(self, owner_uid: str) -> None:
        for key, _ in self._dependents(owner_uid):
            current = self.store.get(key)
            if current is None:
                continue
            others = [each for each in _owners(current.body) if each["uid"] != owner_uid and self._exists(each["uid"])]
            if others:
                self._set_owners(key, current, others)
            else:
                self._delete(self.resources[key.resource], key, current)

    def expire_events(self, before: datetime) -> None:
        """Removes the events that were last seen before then, as the real server's time to live does."""
        with self.store.lock:
            for key, stored in self.store.all():
                if key.resource == EVENTS and _last_seen(stored.body) < before:
                    self._remove(key, stored.body)

    def _orphan_dependents(self, owner_uid: str) -> None:
        for key, stored in self._dependents(owner_uid):
            self._set_owners(key, stored, [each for each in _owners(stored.body) if each["uid"] != owner_uid])

    def _dependents(self, owner_uid: str) -> list[tuple[Key, Stored]]:
        return [
            (key, stored)
            for key, stored in self.store.all()
            if any(each.get("uid") == owner_uid for each in _owners(stored.body))
        ]

    def _set_owners(self, key: Key, stored: Stored, owners: list[Json]) -> None:
        metadata = {name: value for name, value in stored.body["metadata"].items() if name != "ownerReferences"}
        if owners:
            metadata["ownerReferences"] = owners
        self.store.put(key, stored.body | {"metadata": metadata})

    def _collect_if_orphaned(self, key: Key, stored: Stored) -> None:
        """Its owners may have gone between the client's read of their uid and this create."""
        owners = _owners(stored.body)
        if owners and not any(self._exists(each.get("uid", "")) for each in owners):
            self._delete(self.resources[key.resource], key, stored)

    def _exists(self, uid: str) -> bool:
        return any(stored.body["metadata"]["uid"] == uid for _, stored in self.store.all())

    def _decoded(self, resource: Resource, body: Json, options: WriteOptions, *, is_patch: bool = False) -> Json:
        if not isinstance(body, dict) or not isinstance(body.get("metadata", {}), dict):
            raise statuses.bad_request("the object provided is unrecognized (must be a JSON object with metadata)")
        metadata = {name: value for name, value in body.get("metadata", {}).items() if value is not None}
        metadata.pop("managedFields", None)
        kind: Json = {} if resource.custom else {"apiVersion": resource.api_version, "kind": resource.kind}
        body = kind | body | {"metadata": metadata}
        _check_kind(resource, body)
        if resource.schema is None:
            return body
        pruned, unknown = schemas.prune(body, resource.schema)
        _report_unknown(resource, unknown, options, is_patch=is_patch)
        filled: Json = schemas.with_defaults(pruned, resource.schema)
        return filled

    def _validate(self, resource: Resource, body: Json) -> None:
        causes = schemas.errors(body, resource.schema) if resource.schema is not None else []
        if causes:
            raise statuses.invalid(resource.group, resource.kind, body["metadata"]["name"], causes)

    def _metadata_for_create(self, resource: Resource, namespace: str, given: Json) -> Json:
        if given.get("resourceVersion"):
            raise statuses.bad_request("resourceVersion should not be set on objects to be created")
        if given.get("namespace", namespace) != namespace:
            raise statuses.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        metadata = {name: value for name, value in given.items() if name not in (*SERVER_SET, "resourceVersion")}
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + secrets.token_hex(3)[:5]
        _check_name(resource, metadata)
        metadata |= {"namespace": namespace} if resource.namespaced else {}
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": _now()}
        return metadata | ({"generation": 1} if resource.generation else {})

    def _ensure_namespace(self, name: str) -> None:
        key = Key(NAMESPACES, "", name)
        if self.store.get(key) is None:
            metadata = {"name": name, "labels": {"kubernetes.io/metadata.name": name}}
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
            self.create(self.resources[NAMESPACES], "", body, WriteOptions())

    def _publish_definition(self, definition: Json) -> None:
        key = Key(DEFINITIONS, "", definition["metadata"]["name"])
        existing = self.store.get(key)
        conditions = [{"type": each, "status": "True"} for each in ("NamesAccepted", "Established")]
        names = {"singular": definition["spec"]["names"]["kind"].lower()} | definition["spec"]["names"]
        stored_versions = [each["name"] for each in definition["spec"]["versions"] if each["storage"]]
        status = {"conditions": conditions, "acceptedNames": names, "storedVersions": stored_versions}
        body = definition | {"status": status}
        if existing is None:
            metadata = definition["metadata"] | {"uid": str(uuid.uuid4()), "creationTimestamp": _now()}
            self.store.put(key, body | {"metadata": metadata | {"generation": 1}})
        elif existing.body["spec"] != definition["spec"]:
            self.store.put(key, body | {"metadata": existing.body["metadata"]})


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _last_seen(event: Json) -> datetime:
    created = datetime.fromisoformat(event["metadata"]["creationTimestamp"])
    try:
        seen = datetime.fromisoformat(str(event.get("lastTimestamp") or event.get("eventTime")))
    except ValueError:
        return created
    return seen if seen.tzinfo else created


def _owners(body: Json) -> list[Json]:
    return body["metadata"].get("ownerReferences") or []


def _check_kind(resource: Resource, body: Json) -> None:
    for each in ("apiVersion", "kind"):
        if not body.get(each):
            raise statuses.bad_request(
                f"the object provided is unrecognized (must be of type {resource.kind}): Object '{each}' is missing"
            )
    if (body["apiVersion"], body["kind"]) != (resource.api_version, resource.kind):
        raise statuses.bad_request(
            f"the API version in the data ({body['apiVersion']}, {body['kind']}) does not match the expected "
            f"({resource.api_version}, {resource.kind})"
        )


def _report_unknown(resource: Resource, unknown: list[str], options: WriteOptions, *, is_patch: bool) -> None:
    listed = [f'unknown field "{each}"' for each in sorted(unknown)]
    if listed and options.field_validation == "strict":
        error = f"strict decoding error: {', '.join(listed)}"
        if is_patch:
            raise statuses.invalid("", "", "", [Cause("FieldValueInvalid", "patch", f"Invalid value: {error}")])
        raise statuses.bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {error}'
        )
    if options.field_validation == "warn":
        options.warnings.extend(listed)


def _check_name(resource: Resource, metadata: Json) -> None:
    name = metadata.get("name", "")
    if not name:
        cause = Cause("FieldValueRequired", "metadata.name", "Required value: name or generateName is required")
        raise statuses.invalid(resource.group, resource.kind, "", [cause])
    if len(name) > 253 or not _NAME.match(name):
        cause = Cause("FieldValueInvalid", "metadata.name", f'Invalid value: "{name}": {_NAME_RULE}')
        raise statuses.invalid(resource.group, resource.kind, name, [cause])


def _initial(resource: Resource, body: Json) -> Json:
    if resource.status:
        body = {name: value for name, value in body.items() if name != "status"}
    if resource.kind == "Pod":
        return body | {"status": {"phase": "Pending"}}
    if resource.kind == "Namespace":
        return body | {"status": {"phase": "Active"}}
    return body


def _check_identity(resource: Resource, before: Json, wanted: Json) -> None:
    name = before["metadata"]["name"]
    if wanted["metadata"].get("name", name) != name:
        raise statuses.bad_request(
            f"the name of the object ({wanted['metadata']['name']}) does not match the name on the URL ({name})"
        )
    namespace = before["metadata"].get("namespace", "")
    if wanted["metadata"].get("namespace", namespace) != namespace:
        raise statuses.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


def _check_preconditions(resource: Resource, before: Json, wanted: Json, *, is_patch: bool) -> None:
    name, current = before["metadata"]["name"], before["metadata"]
    if wanted.get("uid", current["uid"]) != current["uid"]:
        if is_patch:
            immutable = Cause(
                "FieldValueInvalid", "metadata.uid", f'Invalid value: "{wanted["uid"]}": field is immutable'
            )
            raise statuses.invalid(resource.group, resource.kind, name, [immutable])
        why = f"Precondition failed: UID in precondition: {wanted['uid']}, UID in object meta: {current['uid']}"
        raise statuses.conflict(resource.group, resource.plural, name, why)
    version = wanted.get("resourceVersion")
    if not version and not is_patch and resource.custom:
        cause = Cause(
            "FieldValueInvalid", "metadata.resourceVersion", "Invalid value: 0: must be specified for an update"
        )
        raise statuses.invalid(resource.group, resource.plural, name, [cause])
    if version and version != current["resourceVersion"]:
        raise statuses.conflict(resource.group, resource.plural, name, MODIFIED)


def _merged_by_subresource(resource: Resource, before: Json, wanted: Json, subresource: str) -> Json:
    if subresource == "status":
        kept = {name: value for name, value in before.items() if name != "status"}
        return kept | ({"status": wanted["status"]} if "status" in wanted else {})
    after = wanted
    if resource.status:
        after = {name: value for name, value in wanted.items() if name != "status"}
        after |= {"status": before["status"]} if "status" in before else {}
    fixed = {name: before["metadata"][name] for name in SERVER_SET if name in before["metadata"]}
    metadata = {name: value for name, value in after["metadata"].items() if name not in SERVER_SET}
    metadata = _in_order_of(before["metadata"], metadata | fixed | _identity(before))
    if resource.generation and _desired(resource, after) != _desired(resource, before):
        metadata["generation"] = before["metadata"].get("generation", 0) + 1
    return after | {"metadata": metadata}


def _identity(body: Json) -> Json:
    return {
        name: body["metadata"][name] for name in ("name", "namespace", "resourceVersion") if name in body["metadata"]
    }


def _in_order_of(model: Json, metadata: Json) -> Json:
    return {name: metadata[name] for name in (*model, *metadata) if name in metadata}


def _desired(resource: Resource, body: Json) -> Json:
    if not resource.custom:
        return {"spec": body.get("spec")}
    ignored = ("metadata", "apiVersion", "kind") + (("status",) if resource.status else ())
    return {name: value for name, value in body.items() if name not in ignored}


def _check_delete_preconditions(resource: Resource, body: Json, options: DeleteOptions) -> None:
    uid, version = body["metadata"]["uid"], body["metadata"]["resourceVersion"]
    why = ""
    if options.uid not in (None, uid):
        why = f"the UID in the precondition ({options.uid}) does not match the UID in record ({uid}). "
        why += "The object might have been deleted and then recreated"
    elif options.resource_version not in (None, version):
        why = f"the ResourceVersion in the precondition ({options.resource_version}) does not match "
        why += f"the ResourceVersion in record ({version}). The object might have been modified"
    if why:
        raise statuses.conflict(resource.group, resource.kind, body["metadata"]["name"], why)
