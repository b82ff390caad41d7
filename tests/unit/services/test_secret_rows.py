"""What ways in, rotation and readers do with secrets: who may bring one, and that none comes out again."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from api.views import job_view, operation_view, template_view
from headrace.adapters.sealing import AesSealer, new_key
from headrace.domain.jobs import JobKey, Phase
from headrace.domain.operations import Source, State
from headrace.domain.sealed import Owner
from headrace.errors import IdempotencyConflict, InvalidRequest, Unopenable
from headrace.ports import Scope
from headrace.services.reseal import Reseal, Resealed
from tests.support.secret_shapes import CANARY, SHAPES
from tests.support.world import SCRIPT, World

KEYS = [base64.b64decode(new_key()) for _ in range(2)]
OLD, NEW = KEYS
PARAMETERS: dict[str, Any] = {"pw": {"secret": True, "required": True}, "mode": {"default": "fast"}}
TEMPLATE: dict[str, Any] = {
    "template_id": "t",
    "script": SCRIPT,
    "env": {"DB_PASSWORD": CANARY, "DSN": "postgres://app:${pw}@db/x", "TOKEN": "${mode}"},
    "parameters": PARAMETERS,
}


def has_keys(world: World, *keys: bytes) -> None:
    """From now on every process has these keys, the newest first, and remembers nothing."""
    sealing = world.services.accept._sealing
    sealing._sealer = AesSealer(list(keys)) if keys else None
    sealing._hash_keys.clear()


def resealed(world: World, *keys: bytes) -> Resealed:
    return Reseal(world.store, AesSealer(list(keys)), Scope("default", "default", "default")).run()


def refusal(world: World, **fields: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        world.submit(**fields)
    assert CANARY not in str(caught.value)
    return caught.value.problems


# who may bring one


@pytest.mark.parametrize("via", ["celery", "kafka"])
@pytest.mark.parametrize(
    "parameters",
    [{"pw": CANARY}, {"mode": SHAPES["bearer"], "pw": ""}, {"mode": CANARY}, {"api_key": CANARY}],
    ids=["declared", "by its value", "by its variable", "by its name"],
)
def test_a_message_may_hold_no_secret_parameter(world: World, via: str, parameters: dict[str, Any]) -> None:
    world.services.register.template(TEMPLATE, "default")
    found = refusal(world, template_id="t", job_config={}, parameters=parameters, source=Source(via=via))
    assert next(iter(found)).startswith("parameters.")
    assert "stored as it was sent" in str(found)


@pytest.mark.parametrize("via", ["celery", "kafka"])
@pytest.mark.parametrize(
    "env", [{"A": SHAPES["JAAS"]}, {"DB_PASSWORD": 12345678}, {"A": {"value": "x", "secret": True}}]
)
def test_a_message_may_hold_no_secret_variable(world: World, via: str, env: dict[str, Any]) -> None:
    [field] = refusal(world, job_config={"env": env}, source=Source(via=via))
    assert field.startswith("job_config.env.")


@pytest.mark.parametrize("via", ["celery", "kafka"])
def test_a_message_may_hold_what_is_said_to_be_none(world: World, via: str) -> None:
    said = {"value": "100", "secret": False}
    world.submit(job_config={"env": {"AUTH": said}, "args": ["--token", said]}, source=Source(via=via))
    world.execute()
    [container] = world.whole()["spec"]["podTemplate"]["spec"]["containers"]
    assert {"name": "AUTH", "value": "100"} in container["env"]


@pytest.mark.parametrize("via", ["http", "celery", "kafka"])
def test_a_sealed_text_is_taken_from_nobody(world: World, via: str) -> None:
    world.runs(job_config={"env": {"DB_PASSWORD": CANARY}})
    [operation] = world.services.records.operations_of(JobKey("default", "orders"))
    copied = operation.arguments["request"]["env"]["DB_PASSWORD"]
    assert "sealed" in copied
    config = {"env": {"DB_PASSWORD": copied}}
    assert "taken from nobody" in str(refusal(world, job_id="thief", job_config=config, source=Source(via=via)))
    with pytest.raises(InvalidRequest, match="taken from nobody"):
        world.services.register.template({"template_id": "t", "script": SCRIPT, **config}, "default")


def test_a_sealed_text_that_was_put_into_another_jobs_record_is_not_opened(world: World) -> None:
    has_keys(world, OLD)
    world.submit(job_config={"env": {"DB_PASSWORD": CANARY}})
    stolen = world.submit("thief", job_config={"env": {"DB_PASSWORD": "another"}})
    [theirs] = world.services.records.operations_of(JobKey("default", "orders"))
    world.store._operations[stolen.id] = replace(stolen, arguments=theirs.arguments)
    world.execute("thief")
    assert world.runtime.get("default", "thief") is None
    assert world.runtime.secrets == {}


# templates


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"env": {"DB_PASSWORD": f"{CANARY}-${{mode}}"}}, "env.DB_PASSWORD"),
        ({"env": {"A": f"postgres://app:{CANARY}@${{mode}}/x"}}, "env.A"),
        ({"env": {"A": {"value": f"{CANARY}-${{mode}}", "secret": True}}}, "env.A"),
        ({"parameters": PARAMETERS | {"api_key": {"default": CANARY}}}, "parameters.api_key"),
        ({"parameters": PARAMETERS | {"a": {"default": SHAPES["bearer"]}}}, "parameters.a"),
        (
            {"parameters": PARAMETERS | {"a": {"default": "", "description": SHAPES["GitHub"]}}},
            "parameters.a.description",
        ),
        ({"args": ["--key=${api_key}"], "parameters": PARAMETERS | {"api_key": {"required": True}}}, "args.0"),
    ],
)
def test_a_template_keeps_no_readable_secret(world: World, change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        world.services.register.template({**TEMPLATE, **change}, "default")
    assert field in caught.value.problems
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("env", [{"DB_PASSWORD": f"{CANARY}-$${{x}}"}, {"DB_PASSWORD": f"{CANARY}-${{mode}}"}])
def test_what_is_no_placeholder_is_a_part_of_the_secret(world: World, env: dict[str, str]) -> None:
    parameters = {"parameters": {"mode": {"default": "x"}}} if "$$" in env["DB_PASSWORD"] else {}
    world.services.register.template({"template_id": "t", "script": SCRIPT, "env": env, **parameters}, "default")
    assert CANARY not in repr(vars(world.store))
    world.submit(template_id="t", job_config={})
    world.execute()
    [secret] = world.runtime.secrets.values()
    assert secret["values"]["DB_PASSWORD"] in (f"{CANARY}-${{x}}", f"{CANARY}-${{mode}}")


def test_a_users_word_is_filled_in_and_replaced_whole(world: World) -> None:
    env = {
        "AUTH": {"value": "by-${mode}", "secret": False},
        "PLAIN": {"value": "${mode}", "secret": True},
        "LATER": {"value": "x", "secret": False},
    }
    world.services.register.template({**TEMPLATE, "env": env}, "default")
    world.submit(
        template_id="t",
        job_config={"env": {"LATER": {"secretKeyRef": {"name": "db", "key": "b"}}}},
        parameters={"pw": ""},
    )
    world.execute()
    [container] = world.whole()["spec"]["podTemplate"]["spec"]["containers"]
    found = {each["name"]: each for each in container["env"]}
    assert found["AUTH"]["value"] == "by-fast"
    assert found["LATER"]["valueFrom"] == {"secretKeyRef": {"name": "db", "key": "b"}}
    assert [secret["values"] for secret in world.runtime.secrets.values()] == [{"PLAIN": "fast"}]


# rotation


def test_the_same_submit_is_the_same_before_and_after_a_rotation(world: World) -> None:
    has_keys(world, OLD)
    world.services.register.template(TEMPLATE, "default")
    asked: dict[str, Any] = {
        "template_id": "t",
        "job_config": {"env": {"API_TOKEN": CANARY}},
        "parameters": {"pw": CANARY},
    }
    first = world.submit(**asked, idempotency_key="k")
    world.execute()
    has_keys(world, NEW, OLD)
    assert world.submit(**asked, idempotency_key="k").id == first.id
    world.becomes()
    world.settle()
    assert world.operation(first).state is State.SUCCEEDED
    assert resealed(world, NEW, OLD).unopenable == []
    has_keys(world, NEW)
    assert world.submit(**asked, idempotency_key="k").id == first.id
    with pytest.raises(IdempotencyConflict):
        world.submit(**{**asked, "parameters": {"pw": "other"}}, idempotency_key="k")
    assert CANARY not in repr(vars(world.store))


def test_after_a_reseal_the_old_key_can_be_taken_away(world: World) -> None:
    has_keys(world, OLD)
    version = world.services.register.template(TEMPLATE, "default").version
    has_keys(world, NEW, OLD)
    assert world.services.register.template(TEMPLATE, "default").version == version, "the same content"
    world.runs("before", template_id="t", job_config={}, parameters={"pw": "x"})
    done = resealed(world, NEW, OLD)
    assert done.sealed > 0
    assert done.unopenable == []
    again = resealed(world, NEW, OLD)
    assert (again.sealed, again.kept) == (0, done.sealed + done.kept)
    has_keys(world, NEW)
    assert world.services.register.template(TEMPLATE, "default").version == version
    world.submit("after", template_id="t", job_config={}, parameters={"pw": f"{CANARY}-2"})
    world.execute("after")
    secret = next(each for name, each in world.runtime.secrets.items() if name.startswith("after"))
    assert secret["values"]["DB_PASSWORD"] == CANARY
    assert secret["values"]["DSN"] == f"postgres://app:{CANARY}-2@db/x"


def test_what_an_older_release_sealed_is_opened_and_bound_by_a_reseal(world: World) -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    has_keys(world, OLD)
    template = world.services.register.template(
        {**TEMPLATE, "parameters": {}, "env": {"DB_PASSWORD": CANARY}}, "default"
    )
    before = base64.b64encode(AESSIV(OLD).encrypt(CANARY.encode(), [b"DB_PASSWORD"])).decode()
    body = {**template.body, "env": {"DB_PASSWORD": {"sealed": before}}}
    world.store._templates["default", "t", 1] = template.model_copy(update={"body": body})
    world.submit("one", template_id="t", job_config={})
    world.execute("one")
    assert resealed(world, OLD).sealed == 1
    world.submit("two", template_id="t", job_config={})
    world.execute("two")
    assert [each["values"] for each in world.runtime.secrets.values()] == [{"DB_PASSWORD": CANARY}] * 2
    stored = world.store._templates["default", "t", 1].body["env"]["DB_PASSWORD"]["sealed"]
    with pytest.raises(Unopenable):
        AesSealer([OLD]).open([Owner.job("default", "two")], "DB_PASSWORD", stored)


def test_a_reseal_leaves_open_operations_alone_and_names_what_no_key_opens(world: World) -> None:
    has_keys(world, OLD)
    waiting = world.submit("waiting", job_config={"env": {"DB_PASSWORD": CANARY}})
    world.runs("runs", job_config={"env": {"DB_PASSWORD": CANARY}})
    before = world.store._operations[waiting.id]
    done = resealed(world, NEW)
    assert world.store._operations[waiting.id] == before
    assert sorted(place.split(" ")[0] for place in done.unopenable) == ["job", "key", "operation"]
    assert all("env.DB_PASSWORD" in place or "key-of-hashes" in place for place in done.unopenable)
    assert CANARY not in str(done)


@pytest.mark.parametrize("keys", [(), (NEW,)], ids=["no file yet", "another key"])
def test_a_secret_whose_key_is_on_its_way_is_waited_for(world: World, keys: tuple[bytes, ...]) -> None:
    has_keys(world, OLD)
    operation = world.submit(job_config={"env": {"DB_PASSWORD": CANARY}})
    has_keys(world, *keys)
    for _ in range(20):
        world.execute()
        world.clock.advance(11)
    assert world.operation(operation).state is State.RUNNING
    assert "HEADRACE_SEALING_KEYS_FILE" in world.operation(operation).reason
    assert world.runtime.get("default", "orders") is None, "nothing is created before its secret can be"
    has_keys(world, NEW, OLD)
    world.execute()
    world.becomes()
    world.settle()
    assert world.job().phase is Phase.RUNNING
    assert "HEADRACE_SEALING_KEYS_FILE" not in world.operation(operation).reason
    [secret] = world.runtime.secrets.values()
    assert secret["values"] == {"DB_PASSWORD": CANARY}


def test_a_secret_that_nobody_can_open_is_said_in_the_end(world: World) -> None:
    has_keys(world, OLD)
    operation = world.submit(job_config={"env": {"DB_PASSWORD": CANARY}})
    has_keys(world, NEW)
    for _ in range(120):
        world.execute()
        world.clock.advance(11)
    ended = world.operation(operation)
    assert ended.state is State.FAILED
    assert "DB_PASSWORD cannot be opened" in ended.reason
    assert world.job().phase is Phase.REJECTED


# readers


def places_for(text: str) -> list[dict[str, Any]]:
    """A submit with this text in each field that takes one, and in each of another kind."""
    config: list[dict[str, Any]] = [
        {"script": text},
        {"script": {"name": text, "content": ""}},
        {"script": {"name": "a.py", "content": f"x = '''{text}'''"}},
        {"files": [{"name": "a.txt", "content": text}]},
        {"files": [text]},
        {"type": "SQL", "sql": f"SELECT '{text}'"},
        {"type": "JAR", "jar": text},
        {"type": text},
        {"main_class": text},
        {"jar_files": text},
        {"jar_files": [{"url": text}]},
        {"sha256": text},
        {"args": [text]},
        {"args": text},
        {"args": [f"--x={text}"]},
        {"args": ["--x", {"value": text}]},
        {"env": {"A": text}},
        {"env": {text: "a"}},
        {"env": text},
        {"env": {"A": {"value": text}}},
        {"env": {"SCRIPT_URL": text}},
        {"env": {"A": {"secretKeyRef": {"name": text, "key": "a"}}}},
        {"env_from": text},
        {"env_from": [{"secretRef": {"name": text}}]},
        {"image": text},
        {"flink_version": text},
        {"profile": text},
        {"resources": {"task_manager": {"memory": text}}},
        {"resources": text},
        {"parallelism": text},
        {"flink_configuration": text},
        {"flink_configuration": {"a.b": text}},
        {"flink_configuration": {text: "a"}},
        {"labels": {"a": text}},
        {"labels": text},
        {"pod": {"annotations": {"a": text}}},
        {"pod": {"node_selector": {"a": text}}},
        {"pod": {"image_pull_secrets": [text]}},
        {"pod": {"priority_class_name": text}},
        {"pod": {"volumes": [{"name": "a", "mount_path": "/a", "secret": text}]}},
        {"state": text},
        {"state": {"location": text}},
        {"namespace": text},
        {"service_account": text},
        {"unknown": text},
        {text: 1},
    ]
    submits: list[dict[str, Any]] = [{"job_config": {"script": SCRIPT, **each}} for each in config]
    whole = {"job_config": {"script": SCRIPT}}
    others: list[dict[str, Any]] = [
        {"template_id": text},
        {"start_from": text},
        {"parameters": {"a": text}},
        {"idempotency_key": text},
        {"job_id": text},
    ]
    return submits + [{**whole, **each} for each in others]


def shown_of(error: InvalidRequest) -> str:
    return str(error) + json.dumps(error.problems)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_secret_of_any_shape_in_any_field_is_refused_or_found_nowhere(world: World, shape: str) -> None:
    text, taken, found = SHAPES[shape], 0, list[tuple[str, Any]]()
    for number, body in enumerate(places_for(text)):
        job_id = f"j{number}"
        try:
            operation = world.submit(**{"job_id": job_id, **body})
        except InvalidRequest as error:
            places = {"refusal": shown_of(error)}
        else:
            taken += 1
            world.execute(job_id)
            views = [operation_view(operation), job_view(world.job(job_id), is_stale=False)]
            live = world.runtime.get_whole("default", job_id)
            places = {"readers": repr(views), "store": repr(vars(world.store)), "Kubernetes": repr(live)}
        found += [(place, body) for place, held in places.items() if CANARY in held]
    assert found == []
    assert taken >= 2, "variables are sealed"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_secret_of_any_shape_in_any_field_of_a_template_is_refused_or_found_nowhere(world: World, shape: str) -> None:
    text, found = SHAPES[shape], list[tuple[str, Any]]()
    parameters: list[dict[str, Any]] = [
        {"a": {"default": text}},
        {"a": {"default": "", "description": text}},
        {"a": {"default": text, "allowed_values": [text]}},
        {text: {"default": ""}},
    ]
    bodies = [each["job_config"] for each in places_for(text) if "job_config" in each]
    bodies += [{"script": SCRIPT, "parameters": each} for each in parameters]
    for number, body in enumerate([*bodies, {"script": SCRIPT, "template_id": text}]):
        try:
            template = world.services.register.template({"template_id": f"t{number}", **body}, "default")
        except InvalidRequest as error:
            places = {"refusal": shown_of(error)}
        else:
            places = {"readers": repr(template_view(template)), "store": repr(vars(world.store))}
        found += [(place, body) for place, held in places.items() if CANARY in held]
    assert found == []
