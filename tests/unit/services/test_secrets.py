"""A canary secret put anywhere that a request has is in no record, and reaches the pod by a Secret all the same."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from headrace.adapters.sealing import AesSealer, new_key, read_sealer
from headrace.domain.operations import Source
from headrace.domain.sealed import Owner
from headrace.errors import ConfigurationError, InvalidRequest, Unopenable
from tests.support.world import SCRIPT, World

CANARY = "canary-7f3a"
TEMPLATE: dict[str, Any] = {
    "template_id": "t",
    "script": SCRIPT,
    "env": {"DB_PASSWORD": CANARY, "URL": "jdbc:${pw}", "MODE": "${mode}"},
    "parameters": {"pw": {"secret": True, "required": True}, "mode": {"default": "fast"}},
}


def records(world: World) -> str:
    """Everything that the store holds, and every deployment, as text."""
    whole = [vars(world.store), [world.runtime.get_whole("default", n) for _, n in world.runtime._objects]]
    return repr(whole)


def test_a_plain_secret_is_sealed_and_travels_in_a_secret(world: World) -> None:
    world.runs(job_config={"env": {"DB_PASSWORD": CANARY, "MODE": "fast"}})
    assert CANARY not in records(world)
    [(name, secret)] = world.runtime.secrets.items()
    assert secret["values"] == {"DB_PASSWORD": CANARY}
    assert secret["owner"] == world.job().deployment_uid
    [container] = world.whole()["spec"]["podTemplate"]["spec"]["containers"]
    env = {each["name"]: each for each in container["env"]}
    assert env["DB_PASSWORD"]["valueFrom"] == {"secretKeyRef": {"name": name, "key": "DB_PASSWORD"}}
    assert env["MODE"]["value"] == "fast"


def test_a_secret_parameter_is_sealed_whatever_the_variable_is_called(world: World) -> None:
    world.services.register.template(TEMPLATE, "default")
    assert CANARY not in records(world)
    world.submit(template_id="t", job_config={}, parameters={"pw": f"{CANARY}-2"})
    world.execute()
    assert CANARY not in records(world)
    [secret] = world.runtime.secrets.values()
    assert secret["values"] == {"DB_PASSWORD": CANARY, "URL": f"jdbc:{CANARY}-2"}


def test_the_same_submit_with_its_secret_is_the_same_operation(world: World) -> None:
    config = {"env": {"DB_PASSWORD": CANARY}}
    first = world.submit(job_config=config, idempotency_key="k")
    assert world.submit(job_config=config, idempotency_key="k").id == first.id


def test_a_scale_keeps_the_secret_that_is_there(world: World) -> None:
    world.runs(job_config={"env": {"DB_PASSWORD": CANARY}})
    before = world.whole()["spec"]["podTemplate"]
    world.scale(2)
    world.settle()
    assert world.whole()["spec"]["job"]["parallelism"] == 2
    assert world.whole()["spec"]["podTemplate"] == before


@pytest.mark.parametrize("via", ["celery", "kafka"])
def test_a_plain_secret_does_not_belong_into_a_message(world: World, via: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        world.submit(job_config={"env": {"DB_PASSWORD": CANARY}}, source=Source(via=via))
    assert "secret_key_ref" in caught.value.problems["job_config.env.DB_PASSWORD"]
    assert CANARY not in str(caught.value) + records(world)


@pytest.mark.parametrize(
    "config",
    [
        {"args": ["--db-password", CANARY]},
        {"args": [f"--token={CANARY}"]},
        {"script": f"https://user:{CANARY}@files.example.com/x.py"},
        {"jar_files": f"https://{CANARY}@files.example.com/x.jar"},
        {"flink_configuration": {"s3.secret-key": CANARY}},
        {"env": {"DB_PASSWORD": [CANARY]}},
        {"env": {"A": {"secretKeyRef": CANARY}}},
    ],
)
def test_a_secret_where_it_cannot_be_sealed_is_refused_and_not_repeated(world: World, config: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        world.submit(job_config=config)
    assert CANARY not in str(caught.value) + json.dumps(caught.value.problems) + records(world)


def test_without_a_key_a_plain_secret_is_refused_and_a_reference_taken(world: World) -> None:
    world.services.accept._sealing._sealer = None
    with pytest.raises(InvalidRequest, match="HEADRACE_SEALING_KEYS_FILE"):
        world.submit(job_config={"env": {"DB_PASSWORD": CANARY}})
    world.submit(job_config={"env": {"DB_PASSWORD": {"secretKeyRef": {"name": "db", "key": "password"}}}})


JOB, TEMPLATE_OF_IT = Owner.job("default", "orders"), Owner.template("default", "t")


def test_what_another_key_or_owner_sealed_is_not_opened_and_says_so() -> None:
    one, other = (AesSealer([base64.b64decode(new_key())]) for _ in range(2))
    sealed = one.seal(JOB, "A", CANARY)
    assert one.open([TEMPLATE_OF_IT, JOB], "A", sealed) == CANARY
    assert sealed == one.seal(JOB, "A", CANARY), "a repeat is known"
    strangers = [TEMPLATE_OF_IT, Owner.job("default", "other"), Owner.job("tenant-b", "orders")]
    for owners, name, sealer in (([JOB], "A", other), ([JOB], "B", one), (strangers, "A", one)):
        with pytest.raises(Unopenable, match="HEADRACE_SEALING_KEYS_FILE"):
            sealer.open(owners, name, sealed)


def test_what_an_older_release_sealed_is_still_opened() -> None:
    key = base64.b64decode(new_key())
    sealed = base64.b64encode(AESSIV(key).encrypt(CANARY.encode(), [b"A"])).decode()
    assert AesSealer([key]).open([JOB], "A", sealed) == CANARY


def test_a_new_key_on_top_opens_what_the_old_one_sealed_and_is_found_without_a_restart(tmp_path: Path) -> None:
    file = keys_in(tmp_path, new_key())
    before, late = read_sealer(file), read_sealer(file)
    assert before is not None
    assert late is not None
    sealed = before.seal(JOB, "A", "")
    file.write_text(f"{new_key()}\n{file.read_text()}\n")
    after = read_sealer(file)
    assert after is not None
    assert after.open([JOB], "A", sealed) == ""
    assert after.seal(JOB, "A", CANARY) != before.seal(JOB, "A", CANARY)
    assert late.open([JOB], "A", after.seal(JOB, "A", CANARY)) == CANARY


def keys_in(folder: Path, content: str, mode: int = 0o600) -> Path:
    file = folder / "keys"
    file.touch()
    file.chmod(mode)
    file.write_text(content)
    return file


SHORT = base64.b64encode(bytes(range(20))).decode()


@pytest.mark.parametrize("content", ["", "not base64! not base64!", SHORT, "short", f"{new_key()} {new_key()}"])
def test_a_file_without_a_good_key_stops_the_start(content: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="HEADRACE_SEALING_KEYS_FILE") as caught:
        read_sealer(keys_in(tmp_path, content))
    assert content not in str(caught.value) or not content


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602])
def test_a_sealing_key_that_others_may_read_or_change_seals_nothing(tmp_path: Path, mode: int) -> None:
    file = keys_in(tmp_path, f"# of the installation\n{new_key()}\n", mode)
    with pytest.raises(ConfigurationError, match=r"HEADRACE_SEALING_KEYS_FILE: .* others may read or change it"):
        read_sealer(file)
    file.chmod(0o600)
    sealer = read_sealer(file)
    assert sealer is not None
    sealed = sealer.seal(JOB, "A", CANARY)
    file.chmod(mode)
    assert sealer.open([JOB], "A", sealed) == CANARY, "what a process has read it has"
    with pytest.raises(Unopenable, match="others may read or change it"):
        sealer.open([JOB], "B", sealed)
