"""Walks the records that hold sealed texts, for `headrace-reseal`. Knows no cipher.

A write names the texts that it read: who changed them meanwhile has the word, and the next run finds theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.domain.sealed import Anew, Owner, SealedText, owners_of_job, resealed
from headrace.ports import Scope


def reseal(database: Any, scope: Scope, anew: Anew) -> None:
    """Everything of the scope's tenant that is not another installation's."""
    tenant = scope.tenant
    place = {"tenant": tenant, "cluster": scope.cluster, "namespace": scope.namespace}
    for key in list(database["kept_keys"].find({"tenant": tenant})):
        found = SealedText(f"key {key['name']}", [Owner.installation(tenant)], key["name"], key["sealed"])
        put = anew(found)
        if put != key["sealed"]:
            where = {"_id": key["_id"], "sealed": key["sealed"]}
            database["kept_keys"].update_one(where, {"$set": {"sealed": put}})
    for each in database["job_templates"].find({"tenant": tenant}, {"template_id": 1, "version": 1, "request.env": 1}):
        where_it_is = f"template {each['template_id']} version {each['version']}"
        _put(
            database["job_templates"], each, "request", where_it_is, [Owner.template(tenant, each["template_id"])], anew
        )
    fields = {"job_id": 1, "arguments.template_id": 1, "arguments.request.env": 1}
    for each in database["operations"].find({**place, "is_open": False, "kind": "SUBMIT"}, fields):
        owners = owners_of_job(tenant, each["job_id"], each["arguments"].get("template_id"))
        _put(database["operations"], each, "arguments.request", f"operation {each['_id']}", owners, anew)
    fields = {"job_id": 1, "template_id": 1, "submitted.env": 1, "submitted_by": 1, "open_operations.id": 1}
    for each in database["jobs"].find(place, fields):
        if any(operation["id"] == each.get("submitted_by") for operation in each.get("open_operations", ())):
            continue
        owners = owners_of_job(tenant, each["job_id"], each.get("template_id"))
        _put(database["jobs"], each, "submitted", f"job {each['job_id']}", owners, anew)


def _put(
    collection: Any, document: Mapping[str, Any], path: str, place: str, owners: Sequence[Owner], anew: Anew
) -> None:
    request: Any = document
    for name in path.split("."):
        request = request.get(name) or {}
    put = resealed(request, place, owners, anew)
    if put != request:
        where = {"_id": document["_id"], f"{path}.env": request["env"]}
        collection.update_one(where, {"$set": {f"{path}.env": put["env"]}})
