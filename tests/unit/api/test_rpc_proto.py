"""headrace.proto says what the code does: the kinds with their arguments, and every field of what HTTP answers."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pytest
from google.protobuf.descriptor import FieldDescriptor

from api import views
from api.rpc import generate, headrace_pb2
from api.rpc.calls import ENVELOPE, name_of, table
from api.rpc.statuses import CODE_OF
from api.rpc.translate import SERVICE
from headrace import errors
from headrace.domain.api_keys import Role
from headrace.domain.events import EventSeen
from headrace.domain.log_requests import LogRequest
from headrace.domain.operations import KINDS, Kind, KindName, Source
from headrace.domain.runtime_reports import Lack
from headrace.domain.savepoints import Savepoint
from headrace.ports import ExceptionSeen
from tests.support.world import SCRIPT, World

MESSAGES = headrace_pb2.DESCRIPTOR.message_types_by_name
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)


def fields_of(message: str) -> set[str]:
    return {field.name for field in MESSAGES[message].fields}


@every_kind
def test_a_kind_has_an_rpc_that_takes_its_arguments_and_no_others(kind: Kind) -> None:
    method = SERVICE.methods_by_name[name_of(kind)]
    assert (method.input_type.name, method.output_type.name) == (f"{name_of(kind)}Request", "Answer")
    envelope = {*ENVELOPE} - (set() if kind.can_be_foreseen else {"dry_run"})
    assert fields_of(method.input_type.name) == {*kind.Arguments.model_fields, *envelope}


@every_kind
def test_an_argument_that_is_set_to_nothing_is_told_from_one_that_is_not_set(kind: Kind) -> None:
    for field in SERVICE.methods_by_name[name_of(kind)].input_type.fields:
        assert field.has_presence, field.full_name


@every_kind
def test_an_argument_has_the_type_that_its_kind_takes(kind: Kind) -> None:
    message = SERVICE.methods_by_name[name_of(kind)].input_type
    for name, argument in kind.Arguments.model_fields.items():
        assert TYPES[bare(argument.annotation)] == message.fields_by_name[name].cpp_type, name


def bare(annotation: Any) -> Any:
    """A type without its bounds, and without None."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return bare(next(each for each in get_args(annotation) if each is not type(None)))
    return bare(get_args(annotation)[0]) if origin is Annotated else origin or annotation


TYPES: Mapping[Any, int] = {
    str: FieldDescriptor.CPPTYPE_STRING,
    int: FieldDescriptor.CPPTYPE_INT64,
    bool: FieldDescriptor.CPPTYPE_BOOL,
    Mapping: FieldDescriptor.CPPTYPE_MESSAGE,
}


def test_every_rpc_has_its_place_in_the_table_and_a_role(world: World) -> None:
    rpcs = table(world.services, "default", 1)
    assert set(rpcs) == {method.name for method in SERVICE.methods}
    assert {name_of(kind) for kind in KINDS.values()} <= {name for name, rpc in rpcs.items() if rpc.writes}
    reads = {name for name in rpcs if name.startswith(("Get", "List", "Read", "Who"))}
    assert {name for name, rpc in rpcs.items() if rpc.role is Role.VIEWER} == reads


def test_an_answer_has_the_fields_that_http_gives(world: World) -> None:
    world.runs()
    world.scale(2)
    document = world.services.records.existing(world.job().key)
    assert document is not None
    (operation, *_), job = document.open_operations, world.job()
    whole = views.job_view(job, is_stale=False, open_operations=[operation])
    assert fields_of("Job") == set(whole)
    assert fields_of("Job") >= set(views.job_in_list(job, is_stale=False))
    assert fields_of("OpenOperation") == set(views.open_operation_view(operation))
    assert fields_of("Operation") == set(views.operation_view(operation))
    assert fields_of("Answer") == {*views.answer_view(operation, job), "foresight"}
    transition = world.services.records.transitions_of(job.key)[0]
    assert fields_of("Transition") == set(views.transition_view(transition))
    version = world.services.versions.all(job.key)[0]
    assert fields_of("Version") == set(views.version_view(version))
    (runtime,) = world.services.report_runtimes.states()
    assert fields_of("Runtime") == set(views.runtime_view(runtime))
    assert fields_of("Lack") == {each.name for each in fields(Lack)}
    assert fields_of("Event") == {each.name for each in fields(EventSeen)}
    assert fields_of("Exception") == {each.name for each in fields(ExceptionSeen)}
    assert fields_of("ReadLogRequest") == {each.replace("_seconds", "") for each in get_type_hints(LogRequest)} | {
        "job_id"
    }


def test_a_savepoint_and_a_foresight_have_the_fields_that_http_gives(world: World) -> None:
    assert fields_of("SavepointOnRecord") == {each.name for each in fields(Savepoint)} - {"tenant"}
    world.runs(job_config={"args": ["--a"]})
    asked = {"job_config": {"args": ["--b"], "script": SCRIPT}}
    foresight = world.services.foresee.operation(
        KindName.UPGRADE, "orders", asked, tenant="default", source=Source(via="grpc")
    )
    shown = views.foresight_view(foresight)
    assert fields_of("Foresight") == set(shown)
    assert fields_of("Change") == set(shown["asked_for"][0]) == set(shown["changes"][0])
    assert fields_of("Difference") == set(shown["asked_for"][0]) - {"cost"}


def test_every_error_of_ours_has_a_code() -> None:
    ours = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.HeadraceError)]
    assert len(ours) > 15
    for error in ours:
        found = next(kind for kind, _, _ in CODE_OF if issubclass(error, kind))
        is_a_servers = issubclass(error, errors.TransientError)
        assert (found is errors.TransientError) == is_a_servers, error


def test_the_checked_in_module_is_what_the_proto_makes(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed: ./run check installs the dev group")
    generate.generate(tmp_path)
    here = (generate.FOLDER / generate.MADE).read_text()
    assert (tmp_path / generate.MADE).read_text() == here, "run .venv/bin/python -m api.rpc.generate"
