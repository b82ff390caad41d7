"""What is taken for a secret, by name and by value: one list, for whatever way in and whatever place."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flink_app import flink_sql
from headrace.domain.disclosures import secret_argument
from headrace.domain.environment import secret_variables
from headrace.domain.job_requests import parse_request, recorded_request
from headrace.domain.manifest import Stamp, render
from headrace.domain.secret_names import looks_secret, may_be_secret
from headrace.domain.secrets import (
    found_in,
    found_in_program,
    is_none,
    is_secret,
    outlined_data,
    secret_in_sql,
)
from headrace.errors import InvalidRequest
from tests.support.given import ORDERS, PLATFORM
from tests.support.secret_shapes import CANARY, SHAPES

SAID_NAMES = """
DATABASE_URL REDIS_URL DSN JDBC CONNECTION_STRING SASL_JAAS_CONFIG KAFKA_SASL_JAAS_CONFIG AUTHORIZATION JWT COOKIE
ENCRYPTION_KEY SIGNING_KEY SSH_KEY CLIENT_KEY KEY AZURE_STORAGE_KEY PASSCODE DB_PW PGPW PGPASSWORD DB_PASS CREDS
HMAC SAS AUTH BEARER WEBHOOK_URL DB_PASSWORD db.password dbPassword DBPASSWORD API_TOKEN API_TOKENS apiKey APIKEY
AWS_SECRET_ACCESS_KEY SECRET_KEY_BASE VAULT_SECRET_ID PASSWORD_2 MYSQL_ROOT_PASSWORD ACCESS_TOKEN_PROD clientsecret
"""
NAMES = SAID_NAMES.split()
SAID_REFUSED_BY_NAME = """
--db-password db.token s3.secret-key s3.access-key sasl.jaas.config properties.sasl.jaas.config
kubernetes.x.password fs.azure.account.key.x.blob.core.windows.net security.ssl.internal.key-password
keyStorePassword apiKey client_secret security.delegation.token.provider.s3.secret-key
"""
REFUSED_BY_NAME = SAID_REFUSED_BY_NAME.split()
SAID_HARMLESS = """
--max-tokens --max-new-tokens --tokenizer tokenizer --bypass-cache --password-file --secret-arn
TOKENIZERS_PARALLELISM COMPASS_URL fs.s3a.aws.credentials.provider s3.aws.credentials.provider PARTITION_KEY
PUBLIC_KEY primary-key pad_token NUM_TOKENS tokens_per_second TOKEN_TTL token.timeout PASSWORD_POLICY SECRET_NAME
kubernetes.secrets TRESPASS author kubernetes.env.secretKeyRef kubernetes.container.image.pull-secrets
security.delegation.tokens.enabled MONKEY KEYSPACE security.delegation.tokens.renewal.time-ratio
security.delegation.tokens.renewal.retry.backoff SECRETARY PASSENGERS security.delegation.token.provider.x.enabled
state.backend.type key.format key.fields PASS_THROUGH TOKEN_ENDPOINT passive
"""
HARMLESS = SAID_HARMLESS.split()


@pytest.mark.parametrize("name", NAMES)
def test_a_variable_of_such_a_name_is_sealed(name: str) -> None:
    for value in ("canary", "12345678", 12345678):
        assert list(secret_variables({name: value})) == [name]


@pytest.mark.parametrize("name", REFUSED_BY_NAME)
def test_a_name_that_says_it_is_refused_where_nothing_can_be_sealed(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize("name", HARMLESS)
def test_a_name_that_only_sounds_like_it_is_taken_everywhere(name: str) -> None:
    assert not may_be_secret(name)
    assert secret_argument([name, "512"]) is None
    assert secret_argument([f"{name}=org.example.WebIdentityTokenCredentialsProvider"]) is None


@pytest.mark.parametrize("shape", SHAPES)
def test_a_value_shows_what_it_is_under_any_name(shape: str) -> None:
    text = SHAPES[shape]
    assert found_in(text)
    assert is_secret("X", text)
    assert secret_argument(["--x", text]) in ((1, f"holds {found_in(text)}"), (1, "looks like a secret"))
    assert CANARY not in str(found_in(text))


PLAIN = [
    "postgres://app@db/orders",
    "postgres://app:${password}@db/orders",
    "jdbc:postgresql://db:5432/orders",
    "https://files.example.com/x?v=1",
    "registry:5000/flink:2.2.1@sha256:" + "a" * 64,
    "s3://bucket/flink",
    "10:30",
    "a=b;c=d",
    "mailto:a@example.com",
    "git@github.com:a/b.git",
    "Basic authentication",
    "the bearer of news",
    "org.example.WebIdentityTokenCredentialsProvider",
    "password=${env:DB_PASSWORD}",
    "kafka-1:9092,kafka-2:9092",
    "--max-tokens=512",
]


@pytest.mark.parametrize("text", PLAIN)
def test_a_value_that_holds_none_is_taken(text: str) -> None:
    assert found_in(text) is None
    assert not is_secret("X", text)


@pytest.mark.parametrize(
    ("program", "is_one"),
    [
        ("password = os.environ['DB_PASSWORD']", False),
        ("token = get_token()", False),
        ('columns = {"token": "STRING"}', False),
        ('url = f"postgres://{user}:{password}@db"', False),
        ("url = 'postgres://%s:%s@db' % pair", False),
        ("parser.add_argument('--password', default='')", False),
        ("connect(password='hunter2')", True),
        ('{"password": "hunter2"}', True),
        ("create_engine('postgresql://app:hunter2@db/x')", True),
        ("KEY = '''-----BEGIN PRIVATE KEY-----'''", True),
    ],
)
def test_of_a_program_only_what_it_says_word_for_word_counts(program: str, is_one: bool) -> None:
    assert (found_in_program(program) is not None) is is_one


@pytest.mark.parametrize(
    ("sql", "is_one"),
    [
        ("CREATE TABLE t (a INT) WITH ('connector' = 'jdbc', 'password' = 'hunter2')", True),
        ("// don't\nCREATE TABLE t (a INT) WITH ('password' = 'hunter2')", True),
        ("SET s3.secret-key = hunter2;", True),
        ("SET 's3.secret-key' = 'hunter2';", True),
        ("CREATE TABLE t (a INT) WITH ('url' = 'jdbc:mysql://db/x?password=hunter2')", True),
        ("-- postgres://app:hunter2@db/x\nSELECT 1", True),
        ("INSERT INTO t SELECT a /*+ OPTIONS('token' = 'hunter2') */ FROM b", True),
        ("CREATE TABLE t (a INT) WITH ('password' = '${env:DB_PASSWORD}')", False),
        ("SET 's3.secret-key' = '${env:S3_KEY}'; SET fs.s3a.aws.credentials.provider = a.b.WebTokenProvider;", False),
        ("SET s3 . secret-key = 12345678", True),
        ("INSERT INTO t SELECT E'postgres://app:hunter2@db/x'", True),
        ("SET 'token' = 'hunter2'; INSERT INTO t SELECT 'it has no end", True),
        ("/***/ ' */ CREATE TABLE t (a INT) WITH ('password' = 'hunter2')", True),
        ("CREATE TABLE t (a INT) WITH ('key.format' = 'json', 'token' = '')", False),
        ("INSERT INTO t SELECT a FROM b WHERE token = 'x'", False),
    ],
)
def test_options_and_strings_of_sql_are_looked_at(sql: str, is_one: bool) -> None:
    assert (secret_in_sql(sql) is not None) is is_one


SCRIPT = {"name": "job.py", "content": "print(1)\n"}
PLACES: dict[str, tuple[dict[str, Any], str]] = {
    "labels by name": ({"labels": {"token": CANARY}}, "labels.token"),
    "annotations by name": ({"pod": {"annotations": {"db-password": CANARY}}}, "pod.annotations.db-password"),
    "annotations by value": ({"pod": {"annotations": {"a": SHAPES["bearer"]}}}, "pod.annotations.a"),
    "configuration by a number": ({"flink_configuration": {"s3.secret-key": 12345678}}, "flink_configuration"),
    "configuration by value": ({"flink_configuration": {"env.java.opts": SHAPES["property"]}}, "flink_configuration"),
    "configuration of kubernetes": ({"flink_configuration": {"kubernetes.x.password": CANARY}}, "flink_configuration"),
    "arguments by value": ({"args": [f"--url={SHAPES['password in a query']}"]}, "args"),
    "arguments as JSON": ({"args": [SHAPES["JSON"]]}, "args"),
    "script's URL": ({"script": SHAPES["signed by Azure"]}, "script"),
    "a jar's URL": ({"jar_files": f"https://files.example.com/a.jar?X-Amz-Signature={CANARY}"}, "jar_files.0.url"),
    "state's location": ({"state": {"location": f"s3://b/x?password={CANARY}"}}, "state.location"),
    "a program": ({"script": {"name": "a.py", "content": f"password = '{CANARY}'"}}, "script.content"),
    "a file": ({"files": [{"name": "key.pem", "content": SHAPES["private key"]}]}, "files.0.content"),
    "an image": ({"image": f"app:{CANARY}@registry/flink"}, "image"),
}


@pytest.mark.parametrize("place", PLACES)
def test_where_nothing_can_be_sealed_a_secret_is_refused_with_its_place_and_not_repeated(place: str) -> None:
    body, field = PLACES[place]
    with pytest.raises(InvalidRequest) as caught:
        parse_request({"script": SCRIPT, **body})
    assert list(caught.value.problems) == [field]
    assert CANARY not in str(caught.value)


def test_the_users_word_overrules_the_guess_and_stays_with_the_value() -> None:
    said = {"value": "hunter2", "secret": False}
    body = {
        "script": SCRIPT | {"secret": False, "content": "password = 'hunter2'"},
        "env": {"DB_PASSWORD": said, "N": {"value": 5}},
        "args": ["--password", said],
        "flink_configuration": {"metrics.reporter.x.token": said},
    }
    request = parse_request(body)
    assert recorded_request(request.as_json()) == request
    assert parse_request(request.as_json()) == request, "what is stored may be registered again"
    assert secret_variables(request.as_json()["env"]) == {}
    manifest = render(ORDERS, request, PLATFORM, Stamp(1, "o", 1))
    assert manifest["spec"]["flinkConfiguration"]["metrics.reporter.x.token"] == "hunter2"
    assert manifest["spec"]["job"]["args"][-2:] == ["--password", "hunter2"]
    [container] = manifest["spec"]["podTemplate"]["spec"]["containers"]
    assert {"name": "DB_PASSWORD", "value": "hunter2"} in container["env"]


def test_options_that_only_sound_like_secrets_are_taken_and_those_that_are_none_of_a_jobs_are_refused_as_that() -> None:
    provider = "software.amazon.awssdk.auth.credentials.WebIdentityTokenFileCredentialsProvider"
    options = {
        "fs.s3a.aws.credentials.provider": provider,
        "security.delegation.tokens.enabled": False,
        "security.delegation.tokens.renewal.time-ratio": 0.5,
    }
    taken = parse_request({"script": SCRIPT, "flink_configuration": options}).flink_configuration
    assert taken["fs.s3a.aws.credentials.provider"] == provider
    for statement in (f"SET '{key}' = '{value}';" for key, value in options.items()):
        parse_request({"type": "SQL", "sql": f"{statement} INSERT INTO a SELECT 1;"})
    with pytest.raises(InvalidRequest, match=r"set pod\.volumes instead"):
        parse_request({"script": SCRIPT, "flink_configuration": {"kubernetes.secrets": f"db:/{CANARY}"}})


RECORDED: dict[str, dict[str, Any]] = {
    "a secret": {"args": ["--password", CANARY], "flink_configuration": {"s3.secret-key": CANARY}},
    "an option": {"flink_configuration": {"high-availability.type": "NONE"}},
    "said twice": {"parallelism": 1, "resources": {"task_manager": {"replicas": 2}}},
    "a setting": {"type": "SQL", "script": None, "sql": "SET 'high-availability.type' = 'NONE';"},
    "SQL that has no end": {"type": "SQL", "script": None, "sql": "INSERT INTO a SELECT '"},
}


@pytest.mark.parametrize("record", RECORDED)
def test_what_is_stored_is_read_whatever_would_be_refused_today(record: str) -> None:
    body = {"script": SCRIPT, **RECORDED[record]}
    with pytest.raises(InvalidRequest):
        parse_request(body)
    assert recorded_request(body).type == body.get("type", "PYTHON_SCRIPT")


@pytest.mark.parametrize("word", [{"secret": True}, {"secret": "no"}, {"more": 1}])
def test_a_word_that_cannot_be_kept_is_refused(word: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_request({"script": SCRIPT, "args": [{"value": "hunter2", **word}]})
    assert list(caught.value.problems) == ["args.0"]
    assert "hunter2" not in str(caught.value)


@given(st.lists(st.sampled_from([*NAMES, *HARMLESS, "-", "_", ".", "max", "Tokens", "file", "URL", "2"]), max_size=5))
def test_the_runner_in_the_pod_judges_names_as_the_control_plane_does(parts: list[str]) -> None:
    """Both read one list (tests/unit/flink_app/test_dockerfile.py). Of what is printed, doubt is enough."""
    name = "".join(parts)
    (statement,) = flink_sql.statements(f"CREATE TABLE a (b INT) WITH ('{name}' = 'long enough', 'c' = 'd');")
    assert statement.secrets() == ({"long enough"} if may_be_secret(name) else set())
    assert may_be_secret(name) or not looks_secret(name)


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    for judge in (found_in, found_in_program, secret_in_sql, looks_secret, may_be_secret, is_none):
        judge(text)
    secret_argument([text, text])


@pytest.mark.parametrize("part", ["a", "a:", '"', "=\\", "pass=b;", " \n", "https://", "eyJ", "password='", "//", "'"])
def test_a_long_text_is_judged_in_proportion_to_its_length(part: str) -> None:
    def seconds(characters: int) -> float:
        text, begun = part * (characters // len(part)), time.process_time()
        for judge in (found_in, found_in_program, secret_in_sql):
            judge(text)
        return time.process_time() - begun

    def least(characters: int) -> float:
        return min(seconds(characters) for _ in range(3))  # a machine that is busy makes one of them long

    assert least(200_000) < 50 * max(least(20_000), 0.02)  # in proportion it is 10 times, by its square 100


values = st.recursive(st.text() | st.integers() | st.booleans() | st.none(), lambda inner: st.lists(inner, max_size=3))


@given(st.dictionaries(st.sampled_from(["env", "args", "parameters", "x", "type", "job_config"]), values))
def test_an_outline_holds_no_text_but_of_harmless_fields(record: dict[str, Any]) -> None:
    left = {"type": record.pop("type", 1), "job_config": {"args": record.pop("args", []), "env": {"type": CANARY}}}
    outline = outlined_data({**record, **left})
    assert set(outline) == set(record) | {"type", "job_config"}
    assert outline["job_config"]["env"] == {"type": "…"}
    assert all(value == "…" for name, value in outline.items() if name == "x" and not isinstance(value, list | dict))
