"""The native runtime's table of acts, what its Deployment shows, and what Flink's command line is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.domain.deployments import deployment_of, is_suspended
from headrace.domain.runtimes.native.acts import (
    Act,
    FlinkJob,
    Meaning,
    Shown,
    effective_state,
    meaning,
    next_act,
    start_from,
)
from headrace.domain.runtimes.native.arguments import (
    flink_job_id,
    flink_size,
    options,
    parallelism_of,
    pod_templates,
    release_of,
    with_java_options,
    words,
)
from headrace.domain.runtimes.native.cluster import as_flink_deployment, is_ha_metadata, shell, status_of
from headrace.domain.runtimes.native.records import (
    DONE_ANNOTATION,
    WANTED_ANNOTATION,
    Done,
    Error,
    Launch,
    Left,
    Save,
    Stop,
    Wanted,
    text_of,
)
from headrace.errors import Unreadable

SPEC: dict[str, Any] = {
    "image": "flink:2.2",
    "flinkVersion": "v2_2",
    "flinkConfiguration": {"taskmanager.numberOfTaskSlots": "2", "jobmanager.scheduler": "adaptive"},
    "job": {"jarURI": "local:///a.jar", "state": "running", "parallelism": 3, "upgradeMode": "savepoint"},
}
REST = {**SPEC, "job": {**SPEC["job"], "state": "suspended"}}
OTHER = {**SPEC, "image": "flink:2.3"}
SAVING = {**SPEC, "job": {**SPEC["job"], "savepointTriggerNonce": 4}}
OVERRIDES = "pipeline.jobvertex-parallelism-overrides"
SCALED = {**SPEC, "flinkConfiguration": {**SPEC["flinkConfiguration"], OVERRIDES: "v:2"}}
UP = Done(generation=1, spec=SPEC, launch=Launch("a" * 32))
RUNNING, FAILED = Shown(FlinkJob("RUNNING", "5")), Shown(FlinkJob("FAILED", "5"))
LEFT = Left("savepoint", "s3://b/savepoint-1")


def done(**changes: Any) -> Done:
    return Done(**{name: getattr(UP, name) for name in UP.__struct_fields__} | changes)


def runs_at(parallelism: int, state: str = "RUNNING") -> Shown:
    return Shown(FlinkJob(state, "5", runs_at={"v": parallelism}))


TOLD = done(generation=2, spec=SCALED, required={"v": 1})
TAKEN_BACK = done(generation=3, required={"v": 1})

CASES = {
    "nothing was started": (SPEC, 1, Done(), Shown(), Act.LAUNCH),
    "pods of before are there": (SPEC, 1, Done(), Shown(has_pods=True), Act.CLEAR),
    "it runs as wanted": (SPEC, 1, UP, RUNNING, None),
    "it was refused": (SPEC, 1, Done(1, error=Error("x", "no", is_final=True)), Shown(), None),
    "it was refused, and is another now": (
        OTHER,
        2,
        Done(1, error=Error("x", "no", is_final=True)),
        Shown(),
        Act.LAUNCH,
    ),
    "it shall rest": (REST, 2, UP, RUNNING, Act.STOP),
    "it shall rest and fails": (REST, 2, UP, FAILED, Act.PUT_DOWN),
    "it shall rest and nobody answers": (REST, 2, UP, Shown(), Act.PUT_DOWN),
    "a stop is under way": (REST, 2, done(stop=Stop("t")), RUNNING, Act.AWAIT_STOP),
    "a stop is under way and was taken back": (SPEC, 3, done(stop=Stop("t")), RUNNING, Act.AWAIT_STOP),
    "it was put down": (REST, 2, done(stop=Stop()), Shown(has_pods=True), Act.CLEAR),
    "it was put down and is gone": (REST, 2, done(stop=Stop()), Shown(), Act.LEAVE),
    "it rests": (REST, 2, done(left=LEFT, generation=2, spec=REST), Shown(), None),
    "it rests and its pods are going": (REST, 2, done(left=LEFT, generation=2), Shown(has_pods=True), Act.CLEAR),
    "it rests by another write": (REST, 3, done(left=LEFT, generation=2, spec=REST), Shown(), Act.NOTE),
    "it shall go on": (SPEC, 3, done(left=LEFT, generation=2, spec=REST), Shown(), Act.LAUNCH),
    "it shall go on from what nobody knows": (SPEC, 3, done(left=Left("last-state", None, False)), Shown(), Act.LEAVE),
    "another image": (OTHER, 2, UP, RUNNING, Act.STOP),
    "what only the operator reads": (
        {**SPEC, "flinkConfiguration": {**SPEC["flinkConfiguration"], "kubernetes.operator.x": "1"}},
        2,
        UP,
        RUNNING,
        Act.NOTE,
    ),
    "another parallelism in place": (SCALED, 2, UP, RUNNING, Act.RESCALE),
    "another parallelism in place of a job that has ended": (SCALED, 2, UP, FAILED, Act.NOTE),
    "another parallelism in place of a job that restarts": (SCALED, 2, UP, Shown(FlinkJob("RESTARTING", "5")), None),
    "it runs at what it was told": (SCALED, 2, TOLD, runs_at(2), None),
    "it was told something else since": (SCALED, 2, TOLD, runs_at(1), Act.RESCALE),
    "it restarts, and was told something else since": (SCALED, 2, TOLD, runs_at(1, "RESTARTING"), None),
    "what it was told is taken back": (SPEC, 3, TAKEN_BACK, runs_at(2), Act.RESCALE),
    "what it was told is taken back, and it runs as before": (SPEC, 3, TAKEN_BACK, runs_at(1), None),
    "nobody has told it anything": (SPEC, 1, UP, runs_at(2), None),
    "a savepoint": (SAVING, 2, UP, RUNNING, Act.SAVE),
    "a savepoint under way": (SAVING, 2, done(save=Save("t", 4)), RUNNING, Act.AWAIT_SAVE),
    "a savepoint under way and another image": (
        {**SAVING, "image": "flink:2.3"},
        3,
        done(save=Save("t", 4)),
        RUNNING,
        Act.STOP,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_act_that_is_due(name: str) -> None:
    spec, generation, was_done, shown, expected = CASES[name]
    assert next_act(Wanted(spec, generation), was_done, shown, is_removing=False) is expected
    assert next_act(Wanted(spec, generation), was_done, shown, is_removing=True) is Act.REMOVE


def test_a_change_in_place_that_takes_overrides_away_is_a_redeploy() -> None:
    assert meaning(SPEC, SCALED) is Meaning.IN_PLACE
    assert meaning(SCALED, SPEC) is Meaning.REDEPLOY
    assert meaning(SPEC, {**SCALED, "image": "x"}) is Meaning.REDEPLOY


def test_only_the_adaptive_scheduler_takes_another_parallelism_in_place() -> None:
    """Any other answers the request with an error, for ever."""
    plain = {**SPEC, "flinkConfiguration": {}}
    assert meaning(plain, {**SPEC, "flinkConfiguration": {OVERRIDES: "v:2"}}) is Meaning.REDEPLOY


def test_a_start_begins_from_what_was_left_unless_another_state_is_named() -> None:
    named = {**SPEC, "job": {**SPEC["job"], "initialSavepointPath": "s3://b/named", "savepointRedeployNonce": 3}}
    assert start_from(Wanted(SPEC), Done()) is None
    assert start_from(Wanted(named), Done()) == "s3://b/named"
    assert start_from(Wanted(SPEC, 2), done(left=LEFT)) == LEFT.path
    assert start_from(Wanted(named, 2), done(left=LEFT)) == "s3://b/named"
    assert start_from(Wanted(named, 3), done(left=LEFT, spec=named)) == LEFT.path


@pytest.mark.parametrize(
    ("tasks", "state"), [({}, "RUNNING"), ({"RUNNING": 2, "FINISHED": 1}, "RUNNING"), ({"SCHEDULED": 1}, "CREATED")]
)
def test_a_job_runs_once_its_tasks_do(tasks: dict[str, int], state: str) -> None:
    assert effective_state("RUNNING", tasks) == state


def manifest() -> dict[str, Any]:
    marks = {"headrace.io/job-id": "orders", "headrace.io/tenant": "default", "headrace.io/sequence": "1"}
    metadata = {"name": "orders", "namespace": "prod", "labels": {"team": "a"}, "annotations": marks}
    return {"metadata": metadata, "spec": SPEC}


def raw(**annotations: str) -> dict[str, Any]:
    made = shell(manifest())
    made["metadata"] |= {"uid": "u", "resourceVersion": "7", "generation": 1}
    made["metadata"]["annotations"] |= annotations
    return made


def test_a_deployment_is_shown_without_the_marks_of_the_runtime() -> None:
    whole = as_flink_deployment(raw(), Shown())
    assert whole["spec"] == SPEC
    assert whole["metadata"]["labels"] == {"team": "a"}
    assert set(whole["metadata"]["annotations"]) == {"headrace.io/job-id", "headrace.io/tenant", "headrace.io/sequence"}
    assert whole["status"] == {"act": "LAUNCH"}


def test_what_somebody_has_made_of_a_mark_is_said() -> None:
    with pytest.raises(Unreadable, match=r"headrace\.io/wanted"):
        as_flink_deployment(raw(**{WANTED_ANNOTATION: "{"}), Shown())
    with pytest.raises(Unreadable, match=r"headrace\.io/done"):
        as_flink_deployment(raw(**{DONE_ANNOTATION: "[]"}), Shown())


def test_a_job_that_rests_is_suspended_once_that_was_written_down() -> None:
    left = done(left=LEFT, generation=2, spec=REST)
    marks = {WANTED_ANNOTATION: text_of(Wanted(REST, 2)), DONE_ANNOTATION: text_of(left)}
    seen = deployment_of(as_flink_deployment(raw(**marks), Shown()))
    assert is_suspended(seen)
    assert seen.status is not None
    assert seen.status.job_status is not None
    assert seen.status.job_status.upgrade_savepoint_path == LEFT.path
    stopping = done(stop=Stop("t"))
    behind = {WANTED_ANNOTATION: text_of(Wanted(REST, 2)), DONE_ANNOTATION: text_of(stopping)}
    assert not is_suspended(deployment_of(as_flink_deployment(raw(**behind), Shown())))


@pytest.mark.parametrize(
    ("shown", "lifecycle", "manager", "state"),
    [
        (Shown(), "DEPLOYED", "DEPLOYING", "RECONCILING"),
        (Shown(is_ready=True), "DEPLOYED", "DEPLOYED_NOT_READY", "RECONCILING"),
        (Shown(trouble="FailedCreate: exceeded quota"), "DEPLOYED", "ERROR", "RECONCILING"),
        (Shown(FlinkJob()), "DEPLOYED", "READY", "RECONCILING"),
        (Shown(FlinkJob("CREATED")), "DEPLOYED", "READY", "CREATED"),
        (RUNNING, "STABLE", "READY", "RUNNING"),
        (Shown(FlinkJob("FINISHED")), "STABLE", "READY", "FINISHED"),
        (FAILED, "FAILED", "READY", "FAILED"),
    ],
)
def test_the_status_is_the_operators(shown: Shown, lifecycle: str, manager: str, state: str) -> None:
    status = status_of(Wanted(SPEC), UP, shown, is_removing=False)
    assert (status["lifecycleState"], status["jobManagerDeploymentStatus"]) == (lifecycle, manager)
    assert (status["jobStatus"]["state"], status["observedGeneration"]) == (state, 1)
    assert json.loads(status["reconciliationStatus"]["lastReconciledSpec"]) == {"spec": SPEC}


def test_the_words_hold_no_option_and_the_programs_own_come_last() -> None:
    spec = {**SPEC, "job": {**SPEC["job"], "entryClass": "x.Main", "args": ["-p", "9", "--", "-s"]}}
    assert words(spec, (2, 2, 1), "s3://b/sp") == [
        *("run", "--target", "kubernetes-application", "--fromSavepoint", "s3://b/sp", "--class", "x.Main"),
        *("local:///a.jar", "-p", "9", "--", "-s"),
    ]
    assert words(SPEC, (1, 20, 3), None)[:1] == ["run-application"]
    lenient = {**SPEC, "job": {**SPEC["job"], "allowNonRestoredState": True}}
    assert "--allowNonRestoredState" in words(lenient, (2, 2), "s3://b/sp")
    assert "--allowNonRestoredState" not in words(lenient, (2, 2), None)


def test_options_are_the_specs_with_what_the_operator_would_add() -> None:
    spec = {
        **SPEC,
        "flinkConfiguration": {
            **{"kubernetes.operator.x": "1", "state.backend.type": "rocksdb"},
            **{"high-availability.storageDir": "s3://b/ha/", "web.cancel.enable": "true"},
        },
        "jobManager": {"resource": {"memory": "2Gi", "cpu": 0.5}},
        "taskManager": {"resource": {"memory": "2048m", "cpu": 2}},
        "imagePullPolicy": "Always",
    }
    found = options("orders", "prod", spec, "a" * 32)
    assert "kubernetes.operator.x" not in found
    assert found["state.backend.type"] == "rocksdb"
    assert found["jobmanager.memory.process.size"] == "2G"
    assert found["kubernetes.taskmanager.cpu.amount"] == "2.0"
    assert found["kubernetes.container.image.pull-policy"] == "Always"
    assert found["execution.shutdown-on-application-finish"] == "false"
    assert found["job-result-store.delete-on-commit"] == "false"
    assert found["job-result-store.storage-path"] == f"s3://b/ha/job-result-store/orders/{'a' * 32}"
    assert (found["pipeline.name"], found["web.cancel.enable"]) == ("orders", "true")
    assert found["$internal.pipeline.job-id"] == "a" * 32


def test_flinks_defaults_that_the_operator_changes_are_changed_and_no_place_is_made_up() -> None:
    found = options("orders", "prod", SPEC, "a" * 32)
    assert found["web.cancel.enable"] == "false"
    assert not [name for name in found if name.startswith("job-result-store")]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, {"env.java.opts.all": "--a"}),
        ({"env.java.opts": "-b"}, {"env.java.opts.all": "--a -b"}),
        ({"env.java.opts": "-b", "env.java.opts.all": "-c"}, {"env.java.opts.all": "--a -c"}),
        ({"env.java.opts.client": "-b"}, {"env.java.opts.client": "-b", "env.java.opts.all": "--a"}),
    ],
)
def test_a_jobs_java_options_come_after_the_distributions(given: dict[str, str], told: dict[str, str]) -> None:
    assert with_java_options(given, "--a") == told
    assert with_java_options({}, "") == {}


@pytest.mark.parametrize(("given", "flinks"), [("2Gi", "2G"), ("512Mi", "512M"), ("1g", "1g"), ("2048m", "2048m")])
def test_sizes_are_flinks(given: str, flinks: str) -> None:
    assert flink_size(given) == flinks


def test_counted_task_managers_give_the_parallelism() -> None:
    assert parallelism_of(SPEC) == 3
    assert parallelism_of({**SPEC, "taskManager": {"replicas": 2}}) == 4


def test_pod_templates_are_merged_as_the_operator_does() -> None:
    shared = {"spec": {"containers": [{"name": "main", "env": [1]}], "volumes": [{"name": "a"}]}}
    own = {"spec": {"containers": [{"name": "main", "mounts": [2]}], "volumes": [{"name": "a"}, {"name": "b"}]}}
    found = pod_templates({**SPEC, "podTemplate": shared, "jobManager": {"podTemplate": own}})
    assert found["taskmanager"] == shared
    assert found["jobmanager"]["spec"] == {
        "containers": [{"name": "main", "env": [1], "mounts": [2]}],
        "volumes": [{"name": "a"}, {"name": "b"}],
    }


def test_each_start_has_an_id_of_its_own_and_a_repeat_the_same() -> None:
    assert flink_job_id("a", 1, 1) == flink_job_id("a", 1, 1)
    assert (
        len({flink_job_id("a", 1, 1), flink_job_id("a", 2, 1), flink_job_id("a", 1, 2), flink_job_id("b", 1, 1)}) == 4
    )


@pytest.mark.parametrize(("text", "release"), [("v2_2", (2, 2)), ("v1_20", (1, 20)), ("latest", ()), ("", ())])
def test_a_release_is_read(text: str, release: tuple[int, ...]) -> None:
    assert release_of(text) == release


@pytest.mark.parametrize(
    ("labels", "is_owned", "expected"),
    [
        ({"app": "o", "type": "flink-native-kubernetes"}, False, True),
        ({"app": "o", "configmap-type": "high-availability"}, False, True),
        ({"app": "o", "type": "flink-native-kubernetes"}, True, False),
        ({"app": "o"}, False, False),
        ({"app": "p", "type": "flink-native-kubernetes"}, False, False),
    ],
)
def test_ha_metadata_are_what_nobody_owns(labels: dict[str, str], is_owned: bool, expected: bool) -> None:
    assert is_ha_metadata("o", labels, is_owned=is_owned) is expected
