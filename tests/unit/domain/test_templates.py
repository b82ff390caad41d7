"""What a template and a submit may say: each wrong value is refused with its field, its value and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.domain.flink_options import (
    ALLOWED,
    ANYTHING,
    ELSEWHERE,
    OLDER_KEYS,
    OLDER_PREFIXES,
    REASONS,
    option_of,
    problems_of_configuration,
    rules_of_names,
)
from headrace.domain.flink_sql import SettingRules
from headrace.domain.job_requests import JobRequest, parse_request
from headrace.domain.manifest import Stamp, render
from headrace.domain.parameters import Parameter, substituted
from headrace.domain.sources import MOST_FILE_BYTES
from headrace.domain.templates import Template, parse_resolved, parse_template, resolve, template_body
from headrace.errors import InvalidRequest
from tests.support.given import ORDERS, PLATFORM

FILE = {"name": "job.py", "content": "print(1)\n"}
URL = "https://files.example.com/job.py"
JAR = "https://files.example.com/job.jar"


def problems(body: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        parse_request(body)
    return caught.value.problems


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({}, "script", "is required"),
    ({"script": URL, "typ": "JAR"}, "typ", "did you mean type?"),
    ({"script": URL, "type": "JRA"}, "type", "'JAR' or 'SQL'; got 'JRA'"),
    ({"script": URL, "resources": {"task_manager": {"slot": 2}}}, "resources.task_manager.slot", "did you mean slots?"),
    ({"script": URL, "resources": {"task_manager": {"memory": "2048"}}}, "resources.task_manager.memory", "got '2048'"),
    ({"script": URL, "parallelism": 0}, "parallelism", "greater than or equal to 1; got 0"),
    ({"script": "ftp://x/y.py"}, "script", "http or https URL"),
    ({"script": "local://x/y.py"}, "script", "local:///a/path"),
    ({"script": "https://user:canary@files.example.com/x.py"}, "script", "no user name or password"),
    ({"script": {"name": "../job.py", "content": ""}}, "script.name", "below the job's folder"),
    ({"script": {**FILE, "sha256": "0" * 64}}, "script", "damaged"),
    ({"script": {"name": "job.txt", "content": ""}}, "script.name", "must end with .py"),
    ({"script": FILE, "sha256": "0" * 64}, "sha256", "fetched by its URL"),
    ({"script": FILE, "files": [FILE]}, "files", "job.py is there twice"),
    (
        {"script": FILE, "files": [{"name": "job.py/a.py", "content": ""}]},
        "files",
        "job.py is a file, and a folder of other files",
    ),
    ({"script": {"name": "job.py", "content": "x" * (MOST_FILE_BYTES + 1)}}, "files", "a ConfigMap takes"),
    ({"script": FILE, "jar": JAR}, "jar", "a PYTHON_SCRIPT job has none"),
    ({"type": "JAR"}, "jar", "is required"),
    ({"type": "JAR", "jar": JAR, "script": URL}, "script", "a JAR job has none"),
    ({"type": "JAR", "jar": "https://files.example.com/job.zip"}, "jar", "must end with .jar"),
    ({"type": "JAR", "jar": JAR, "main_class": "a b"}, "main_class", "com.example.Job"),
    ({"type": "SQL"}, "sql", "exactly one of sql"),
    ({"type": "SQL", "sql": "USE a;\nSELECT 'canary"}, "sql", "line 2: the string that begins here has no end"),
    (
        {"type": "SQL", "sql": "SET 'parallelism.default' = 'canary';"},
        "sql",
        "statement 1, line 1: SET parallelism.default may not be set: set parallelism instead",
    ),
    (
        {"type": "SQL", "script": {"name": "a.sql", "content": "SET execution.checkpointing.savepoint-dir = canary;"}},
        "script.content",
        "SET execution.checkpointing.savepoint-dir may not be set: set state.location instead",
    ),
    ({"type": "SQL", "sql": "SET 'high-availability.type' = 'canary';"}, "sql", "it is always on"),
    ({"type": "SQL", "sql": "SET 's3.secret-key' = 'canary';"}, "sql", "secret_key_ref"),
    ({"type": "SQL", "sql": "SET 'a.b' = 'can\nary';"}, "sql", "no line break"),
    ({"type": "SQL", "sql": "SELECT 1;", "env": {"HEADRACE_SQL_SETTINGS": "{}"}}, "env", "may not be set"),
    ({"type": "SQL", "sql": "SELECT 1", "script": URL}, "sql", "exactly one of sql"),
    ({"script": URL, "jar_files": "https://x/a.jar,https://x/b.txt"}, "jar_files.1.url", "must end with .jar"),
    ({"script": URL, "env": {"1X": "a"}}, "env.1X", "no digit first"),
    ({"script": URL, "env": {"HEADRACE_OUTPUT": "a"}}, "env", "HEADRACE_OUTPUT may not be set"),
    ({"script": URL, "env": {"A": {"secretKeyRef": {"name": "db"}}}}, "env.A.secretKeyRef.key", "Field required"),
    ({"script": URL, "env": {"A": {"configMapKeyRef": {"name": "c", "key": "k"}}}}, "env.A", "come by env_from"),
    ({"script": URL, "env": {"A": {"valueFrom": {"fieldRef": {"fieldPath": "x"}}}}}, "env.A", "secret_key_ref"),
    ({"script": URL, "env_from": [{}]}, "env_from.0", "exactly one of secret_ref, config_map_ref"),
    ({"script": URL, "args": ["--db-password", "canary"]}, "args", "args.1 looks like a secret"),
    ({"script": URL, "args": ["--db.token=canary"]}, "args", "args.0 looks like a secret"),
    ({"script": URL, "flink_configuration": {"a": {"b": 1}}}, "flink_configuration", "must be flat: write a.<key>"),
    ({"script": URL, "flink_configuration": {"a": "x\nb: y"}}, "flink_configuration", "no line break"),
    ({"script": URL, "flink_configuration": {"kubernetes.cluster-id": "x"}}, "flink_configuration", "may not be set"),
    ({"script": URL, "flink_configuration": {"s3.secret-key": "canary"}}, "flink_configuration", "secret_key_ref"),
    ({"script": URL, "state": {"location": "file:///state"}}, "state", "needs a volume that all pods share"),
    ({"script": URL, "state": {"location": "ftp://a/b"}}, "state", "must be a URI of one of s3"),
    ({"script": URL, "state": {"location": "s3://k:canary@b/x"}}, "state", "no user name or password"),
    (
        {"script": URL, "state": {"location": "s3://b/x", "volume": {"host_path": "/x"}}},
        "state",
        "for file:// locations alone",
    ),
    ({"script": URL, "pod": {"hostNetwork": True}}, "pod.hostNetwork", "unknown field"),
    ({"script": URL, "pod": {"node_selectr": {}}}, "pod.node_selectr", "did you mean node_selector?"),
    ({"script": URL, "pod": {"containers": []}}, "pod.containers", "unknown field"),
    ({"script": URL, "pod": {"volumes": [{"name": "a", "mount_path": "/a"}]}}, "pod.volumes.0", "exactly one of"),
    (
        {"script": URL, "pod": {"volumes": [{"name": "a", "mount_path": "/opt/flink/lib", "secret": "s"}]}},
        "pod.volumes.0",
        "is reserved",
    ),
    ({"script": URL, "pod": {"tolerations": [{"key": "a", "effect": "X"}]}}, "pod.tolerations.0.effect", "NoSchedule"),
    ({"script": URL, "labels": {"a b": "c"}}, "labels.a b", "example.com/name"),
    ({"script": URL, "image": "canary image"}, "image", "must be an image's name"),
    ({"script": URL, "image": "registry.example.com/../x"}, "image", "must be an image's name"),
    ({"type": "SQL", "sql": "SELECT 1", "args": ["a"]}, "args", "a SQL job has none"),
    ({"script": URL, "flink_configuration": {"a": None}}, "flink_configuration", "a has no value"),
    ({"script": URL, "flink_configuration": {"a": [1]}}, "flink_configuration", "with ; between its values"),
    ({"script": URL, "flink_configuration": {"parallelism.default": 2}}, "flink_configuration", "set parallelism"),
    ({"script": URL, "labels": {"headrace.io/job": "x"}}, "labels", "headrace.io/job may not be set"),
    ({"script": URL, "labels": {"app": "x"}}, "labels", "app may not be set"),
    ({"script": URL, "env": {"PATH": "/x"}}, "env", "PATH may not be set"),
    ({"script": URL, "env": {"PYFLINK_GATEWAY_PORT": "1"}}, "env", "PYFLINK_GATEWAY_PORT may not be set"),
    ({"script": URL, "parallelism": True}, "parallelism", "valid integer"),
    ({"script": URL, "parallelism": "2"}, "parallelism", "valid integer"),
    ({"script": URL, "resources": {"task_manager": {"cpu": "1"}}}, "resources.task_manager.cpu", "valid number"),
    ({"script": URL, "resources": {"task_manager": {"cpu": True}}}, "resources.task_manager.cpu", "valid number"),
    (
        {"script": URL, "pod": {"volumes": [{"name": "a", "mount_path": "/a", "empty_dir": "yes"}]}},
        "pod.volumes.0.empty_dir",
        "valid boolean",
    ),
    (
        {"script": URL, "state": {"location": "file:///etc/x", "volume": {"host_path": "/x"}}},
        "state",
        "would be mounted at /etc/x",
    ),
    (
        {"script": URL, "state": {"location": "file:///opt/headrace", "volume": {"host_path": "/x"}}},
        "state",
        "is reserved",
    ),
    (
        {"script": URL, "state": {"location": "file:///x", "volume": {"host_path": "/x/../etc"}}},
        "state.volume.host_path",
        "may not hold . or ..",
    ),
]


@pytest.mark.parametrize(("body", "field", "words"), WRONG, ids=[f"{w[1]}: {w[2]}" for w in WRONG])
def test_a_wrong_value_names_its_field_and_what_is_allowed(body: dict[str, Any], field: str, words: str) -> None:
    found = problems(body)
    assert words in found.get(field, ""), found
    assert "canary" not in str(found)


@pytest.mark.parametrize(
    "body",
    [
        {"script_path": URL},
        {"env": {"SCRIPT_URL": URL}},
        {"args": ["--script-url", URL]},
        {"args": [f"--script-url={URL}"]},
        {"script": URL, "env": {"SCRIPT_URL": URL}},
    ],
)
def test_the_other_spellings_of_a_script_mean_the_same(body: dict[str, Any]) -> None:
    request = parse_request(body)
    assert request.script == URL
    assert request.args == ()


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/opt",
            "/opt/",
            "/opt/headrace",
            "/opt/headrace/files",
            "/opt/headrace/state",
            "/var",
            "/run",
            "/run/secrets",
        ),
        *("/etc/ssl", "/opt/java", "/usr", "/usr/lib", "/lib"),
    ],
)
def test_no_volume_hides_what_the_image_needs(path: str) -> None:
    volume = {"name": "a", "mount_path": path, "emptyDir": True}
    with pytest.raises(InvalidRequest, match="is reserved"):
        parse_request({"script": URL, "pod": {"volumes": [volume]}})


@pytest.mark.parametrize("path", ["/opt/./headrace", "/./etc", "/data/../etc", "/.", "/./"])
def test_no_volume_has_a_path_that_comes_to_another(path: str) -> None:
    volume = {"name": "a", "mount_path": path, "emptyDir": True}
    with pytest.raises(InvalidRequest, match=r"may not hold \. or \.\."):
        parse_request({"script": URL, "pod": {"volumes": [volume]}})


@pytest.mark.parametrize("path", ["/opt/headraces", "/opt/models", "/data", "/variable"])
def test_a_volume_may_be_beside_it(path: str) -> None:
    volume = {"name": "a", "mount_path": path, "emptyDir": True}
    assert parse_request({"script": URL, "pod": {"volumes": [volume]}}).pod.volumes[0].mount_path == path


PLAIN = "http://files.example.com"
OPEN_TO_OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"script": f"{PLAIN}/a.py"}, "script"),
    ({"args": ["--script-url", f"{PLAIN}/a.py"]}, "script"),
    ({"type": "SQL", "script": f"{PLAIN}/a.sql"}, "script"),
    ({"type": "JAR", "jar": f"{PLAIN}/a.jar"}, "jar"),
    ({"script": FILE, "jar_files": f"{URL}.jar, HTTP://files.example.com/a.jar"}, "jar_files.1.url"),
    ({"script": FILE, "jar_files": [{"url": "http://10.0.0.1/a.jar"}]}, "jar_files.0.url"),
    ({"script": "http://localhost.example.com/a.py"}, "script"),
]


@pytest.mark.parametrize(("body", "field"), OPEN_TO_OTHERS, ids=[str(each[0]) for each in OPEN_TO_OTHERS])
def test_plain_http_needs_the_files_hash(body: dict[str, Any], field: str) -> None:
    assert list(problems(body)) == [field]
    assert "give https, or the file's sha256" in problems(body)[field]


@pytest.mark.parametrize(
    "body",
    [
        {"script": f"{PLAIN}/a.py", "sha256": "a" * 64},
        {"type": "JAR", "jar": f"{PLAIN}/a.jar", "sha256": "a" * 64},
        {"script": FILE, "jar_files": [{"url": f"{PLAIN}/a.jar", "sha256": "a" * 64}]},
        *({"script": f"http://{own}/a.py"} for own in ("127.0.0.1:8000", "localhost", "[::1]:80")),
        {"script": URL},
    ],
    ids=str,
)
def test_what_nobody_could_change_on_its_way_needs_none(body: dict[str, Any]) -> None:
    assert parse_request(body)


def test_two_different_scripts_are_refused() -> None:
    assert "different scripts" in str(problems({"script": URL, "env": {"SCRIPT_URL": f"{URL}?2"}}))


def test_what_follows_the_users_own_dashes_is_theirs() -> None:
    args = ["--rate", "5", "--", "--script-url", URL, "--", "-p"]
    assert parse_request({"script": URL, "args": args}).args == tuple(args)


def test_jar_files_are_a_list_or_text_with_commas_or_in_the_environment() -> None:
    one, two = "https://x.example.com/a.jar", "local:///opt/b.jar"
    for body in (
        {"jar_files": [one, {"url": two}]},
        {"jar_files": f"{one}, {two}"},
        {"env": {"JAR_FILES": f"{one},{two}"}},
    ):
        assert [jar.url for jar in parse_request({"script": URL, **body}).jar_files] == [one, two]


@pytest.mark.parametrize("body", [{"script": FILE}, {"type": "JAR", "jar": JAR}, {"type": "SQL", "sql": "SELECT 1"}])
def test_a_request_survives_its_json_form(body: dict[str, Any]) -> None:
    pod = {"nodeSelector": {"disk": "ssd"}, "volumes": [{"name": "a", "mountPath": "/data", "emptyDir": True}]}
    env = {"A": {"secretKeyRef": {"name": "db", "key": "password"}}, "B": {"sealed": "x"}, "C": 1}
    request = parse_request({**body, "pod": pod, "env": env, "state": {"location": "s3://b/x"}})
    assert JobRequest.model_validate(request.as_json()) == request


# parameters

PARAMETERS: dict[str, Any] = {
    "topic": {"default": "orders"},
    "rate": {"type": "INTEGER", "required": True},
    "mode": {"allowed_values": ["fast", "slow"], "default": "fast"},
    "password": {"secret": True, "required": True},
}
BODY: dict[str, Any] = {
    "template_id": "t",
    "type": "SQL",
    "sql": "CREATE TABLE `${topic}` (a INT) WITH ('topic' = '${topic}'); -- ${nothing}\n"
    "SET 'x' = '$${y}';\nSELECT ${rate};",
    "parameters": PARAMETERS,
    "env": {"DB_PASSWORD": "${password}", "MODE": "${mode}"},
    "flink_configuration": {"a.b": "${rate}"},
}


def test_parameters_are_put_in_place_of_their_names() -> None:
    body = resolve(parse_template(BODY), {}, {"rate": 7, "password": "x"})
    assert body["sql"].startswith("CREATE TABLE `orders` (a INT) WITH ('topic' = 'orders'); -- ${nothing}\n")
    assert body["sql"].endswith("SET 'x' = '${y}';\nSELECT 7;")
    assert body["env"] == {"DB_PASSWORD": "x", "MODE": "fast"}
    assert body["flink_configuration"] == {"a.b": "7"}


@pytest.mark.parametrize(
    ("given", "name", "words"),
    [
        ({}, "rate", "is required"),
        ({"rate": "x", "password": "p"}, "rate", "must be a whole number"),
        ({"rate": True, "password": "p"}, "rate", "must be a whole number"),
        ({"rate": 1, "password": "p", "mode": "quick"}, "mode", "must be one of fast, slow"),
        ({"rate": 1, "password": "p", "tpic": "a"}, "tpic", "did you mean topic?"),
        ({"rate": 1, "password": "p", "topic": "a\nb\x00"}, "topic", "without control characters"),
    ],
)
def test_a_wrong_parameter_is_named(given: dict[str, Any], name: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolve(parse_template(BODY), {}, given)
    assert words in caught.value.problems[f"parameters.{name}"]


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"sql": "SELECT ${rat}"}, "sql", "did you mean ${rate}?"),
        ({"sql": "SELECT ${topic}"}, "sql", "put it into quotes"),
        ({"args": ["${password}"]}, "args.0", "is secret"),
        ({"parameters": {"a": {}}}, "parameters.a", "needs a default, or required: true"),
        ({"parameters": {"a": {"secret": True, "default": "x"}}}, "parameters.a", "would be stored"),
        ({"parameters": {"a": {"type": "INTEGER", "default": "x"}}}, "parameters.a", "must be a whole number"),
    ],
)
def test_a_wrong_declaration_is_refused_when_it_is_registered(change: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_template({**BODY, **change})
    assert words in caught.value.problems[field]


def strings_of(sql: str) -> list[str]:
    """The values of the string literals of a statement, read as SQL reads them."""
    found, rest = [], sql
    while "'" in rest:
        rest, value = rest.partition("'")[2], ""
        while True:
            part, _, rest = rest.partition("'")
            value += part
            if not rest.startswith("'"):
                break
            value, rest = value + "'", rest[1:]
        found.append(value)
    return found


@given(st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc"))))
def test_whatever_the_value_a_sql_string_stays_one_string(value: str) -> None:
    parameters = {"p": Parameter(required=True)}
    filled = substituted({"sql": "INSERT INTO t VALUES ('${p}', 1) -- ${p}"}, parameters, {"p": value})["sql"]
    assert filled.endswith(", 1) -- ${p}")
    assert strings_of(filled.removesuffix(", 1) -- ${p}")) == [value]


@given(st.text())
def test_a_template_without_parameters_is_taken_as_it_is(text: str) -> None:
    body = {"args": [text, "${x}"], "env": {"A": text}}
    assert substituted(body, {}, {}) == body


def test_a_template_survives_its_json_form() -> None:
    template = parse_template(BODY)
    again = parse_template(template_body(template))
    assert again.is_like(template)
    assert Template.model_validate(template.model_dump(mode="json")) == template


def test_overrides_lie_on_top_and_are_no_templates_themselves() -> None:
    body = resolve(parse_template(BODY), {"env": {"MORE": "${rate}"}, "sql": "SELECT 1"}, {"rate": 1, "password": "x"})
    request = parse_resolved(body)
    assert request.env["MORE"] == "${rate}"
    assert request.sql == "SELECT 1"
    assert request.env["MODE"] == "fast"


OPTIONS = st.sampled_from([*ALLOWED, *ELSEWHERE, *REASONS, *OLDER_KEYS, *OLDER_PREFIXES, "x", "pipeline.name"])
ENDS = st.sampled_from(["", ".x", "x", ".default", ".type"])
LISTS = st.sampled_from([(), ANYTHING, ("kubernetes.client.", "security.kerberos.login.keytab"), ("jmx.*",)])
FINE = {"kubernetes.rest-service.exposed.type": "ClusterIP", "web.submit.enable": "false"}


@example("jmx", ("jmx.*",))
@example("jmx.server.port", ("jmx.*",))
@example("kubernetes.client", ("kubernetes.client.",))
@given(st.tuples(OPTIONS, ENDS).map("".join), LISTS)
def test_the_image_refuses_by_name_what_flink_configuration_refuses(key: str, allowed: tuple[str, ...]) -> None:
    """The rules travel as data for scripts that are fetched by their URL: there is no list but one."""
    rules = SettingRules(*rules_of_names(allowed))
    value = FINE.get(option_of(key), "9")
    assert (rules.problem_of(key) is not None) == bool(list(problems_of_configuration({key: value}, allowed)))


def test_a_script_that_is_fetched_brings_the_rules_of_what_it_may_set() -> None:
    def env(body: dict[str, Any]) -> dict[str, str]:
        spec = render(ORDERS, parse_request({"type": "SQL", **body}), PLATFORM, Stamp(1, "o", 1))["spec"]
        listed = spec["podTemplate"]["spec"]["containers"][0]["env"]
        return {each["name"]: each["value"] for each in listed}

    fetched = env({"script": "https://files.example.com/job.sql"})
    allowed = PLATFORM.policy.flink_configuration
    assert SettingRules.from_json(fetched["HEADRACE_SQL_SETTINGS"]) == SettingRules(*rules_of_names(allowed))
    assert "HEADRACE_SQL_SETTINGS" not in env({"sql": "INSERT INTO a SELECT 1;"})


def test_options_of_the_sql_client_change_nothing_and_are_taken() -> None:
    parse_request({"type": "SQL", "sql": "SET 'sql-client.execution.result-mode' = 'tableau'; INSERT INTO a SELECT 1;"})
