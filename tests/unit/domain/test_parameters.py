"""Where a template's parameters may stand, and that a value stays what it is there: data."""

from __future__ import annotations

import hashlib
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.flink_sql import scan
from headrace.domain.parameters import MOST_FILLED_CHARACTERS
from headrace.domain.templates import parse_resolved, parse_template, resolve
from headrace.errors import InvalidRequest

HOST = "https://files.example.com"
PARAMETERS: dict[str, Any] = {
    "what": {"required": True},
    "version": {"required": True},
    "count": {"type": "INTEGER", "required": True},
    "ratio": {"type": "NUMBER", "default": 0.5},
    "is_on": {"type": "BOOLEAN", "default": True},
    "password": {"secret": True},
}
VALUES = {"what": "orders", "version": "1.2.3", "count": 3}


def filled(body: dict[str, Any], **values: Any) -> dict[str, Any]:
    template = parse_template({"template_id": "t", "parameters": PARAMETERS, **body})
    return resolve(template, {}, {**VALUES, **values})


def sql(text: str, **values: Any) -> str:
    return str(filled({"type": "SQL", "sql": text}, **values)["sql"])


def refusal(body: dict[str, Any], **values: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as refused:
        filled(body, **values)
    return refused.value.problems


def sql_refusal(text: str, **values: Any) -> dict[str, str]:
    return refusal({"type": "SQL", "sql": text}, **values)


HOSTILE = "1 FROM t; DROP TABLE a; INSERT INTO a SELECT 2"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("// don't do this\nINSERT INTO t SELECT ${what} FROM a;", "put it into quotes"),
        ("-- don't\rINSERT INTO t SELECT ${what};", "put it into quotes"),
        ("INSERT INTO t SELECT 'it''s', ${what};", "put it into quotes"),
        ("INSERT INTO t SELECT E'\\'', ${what} --'", "put it into quotes"),
        ("INSERT INTO t SELECT 1 /*+ X(${what}) */;", "put it into quotes"),
        ("// run by '${what}'\nINSERT INTO t SELECT 1;", "stands in a comment"),
        ("/* `${what}` */ INSERT INTO t SELECT 1;", "stands in a comment"),
        ("INSERT INTO t SELECT E'${what}';", "stands in a string with a prefix"),
        ("INSERT INTO t SELECT e'it''s ${what}';", "stands in a string with a prefix"),
        ("INSERT INTO t SELECT U&'${what}';", "stands in a string with a prefix"),
        ("INSERT INTO t SELECT _utf8'${what}', N'x';", "stands in a string with a prefix"),
        ("INSERT INTO t SELECT 1 /*+ OPTIONS('a'='${waht}') */;", "did you mean ${what}?"),
        ("INSERT INTO t_${count} SELECT 1;", "is a part of something here"),
        ("INSERT INTO t SELECT 1.${count}e5;", "is a part of something here"),
        ("INSERT INTO t SELECT ${count}${count};", "is a part of something here"),
        ("INSERT INTO t SELECT '${password}';", "is secret"),
        ("INSERT INTO t SELECT ${HEADRACE_OUTPUT};", "stands in a plain string alone"),
        ("INSERT INTO `${HEADRACE_OUTPUT}` SELECT 1;", "stands in a plain string alone"),
    ],
)
def test_a_parameter_that_could_leave_where_it_stands_is_refused_when_the_template_is_registered(
    text: str, words: str
) -> None:
    found = sql_refusal(text, what=HOSTILE)
    assert words in found["sql"]
    assert "DROP" not in str(found)


def test_a_comment_is_a_comment_however_it_is_quoted() -> None:
    text = "// don't\nINSERT INTO `${what}` SELECT '${what}'; // see ${x}, and ${y} too\n"
    assert sql(text, what="a'b`c") == "// don't\nINSERT INTO `a'b``c` SELECT 'a''b`c'; // see ${x}, and ${y} too\n"


def test_a_hint_is_filled_in() -> None:
    text = "INSERT INTO t SELECT * FROM a /*+ OPTIONS('mode'='${what}', 'n'='${count}') */ LIMIT ${count};"
    after = "INSERT INTO t SELECT * FROM a /*+ OPTIONS('mode'='*/ '' ;', 'n'='3') */ LIMIT 3;"
    assert sql(text, what="*/ ' ;") == after


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("INSERT INTO t SELECT 10 -${count} FROM a;", "INSERT INTO t SELECT 10 -(-1) FROM a;"),
        ("INSERT INTO t SELECT (-${ratio}), '${ratio}';", "INSERT INTO t SELECT (-(-0.25)), '-0.25';"),
        ("INSERT INTO t SELECT ${is_on};", "INSERT INTO t SELECT true;"),
    ],
)
def test_a_negative_number_makes_no_comment(text: str, after: str) -> None:
    assert sql(text, count=-1, ratio=-0.25) == after


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_is_finite(value: float) -> None:
    assert "must be a finite number" in sql_refusal("INSERT INTO t SELECT ${ratio};", ratio=value)["parameters.ratio"]
    with pytest.raises(InvalidRequest, match="must be a finite number"):
        parse_template({"template_id": "t", "parameters": {"r": {"type": "NUMBER", "default": value}}, "sql": "x"})


@pytest.mark.parametrize("value", ["", "a\nb"])
def test_a_name_in_quotes_is_one(value: str) -> None:
    assert "is a name in SQL" in sql_refusal("INSERT INTO `${what}` SELECT 1;", what=value)["parameters.what"]


def test_what_two_dollars_say_is_the_text_itself_wherever_a_parameter_could_stand() -> None:
    text = "INSERT INTO `$${what}` SELECT '$${what}', E'$${what}' -- $${what}\n;"
    assert sql(text) == "INSERT INTO `${what}` SELECT '${what}', E'${what}' -- $${what}\n;"


def test_the_output_folder_is_left_to_the_runner() -> None:
    assert sql("INSERT INTO t SELECT '${HEADRACE_OUTPUT}/${what}';").count("'${HEADRACE_OUTPUT}/orders'") == 1


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("SELECT '${what}'", {"what": "${env:DB_PASSWORD}"}),
        ("SELECT 'a ${what}{env:DB_PASSWORD}'", {"what": "$"}),
        ("SELECT '${what}${version}'", {"what": "${env:DB_", "version": "PASSWORD}"}),
        ("SELECT '${env:A}' /*+ X('k'='${what}') */", {"what": "x${env:DB_PASSWORD}"}),
    ],
)
def test_a_value_reads_no_variable_of_the_pod(text: str, values: dict[str, str]) -> None:
    assert "is named by the template alone" in sql_refusal(f"INSERT INTO t {text};", **values)["parameters.what"]


def test_a_template_says_itself_which_variable_of_the_pod_is_read() -> None:
    text = "CREATE TABLE t (a INT) WITH ('password' = '${env:DB_PASSWORD}', 'url' = '${what}?p=${env:DB_PASSWORD}');"
    assert sql(text, what="jdbc:x//y") == text.replace("${what}", "jdbc:x//y")
    assert "stands in a plain string alone" in sql_refusal("INSERT INTO t SELECT ${env:DB_PASSWORD};")["sql"]
    assert "is named by the template alone" in str(sql_refusal("INSERT INTO t SELECT '${env:${what}}';"))


SAID: list[tuple[dict[str, Any], str]] = [
    ({"args": ["--token", {"value": "<${what}>", "secret": False}]}, "args"),
    ({"env": {"AUTH": {"value": "<${what}>", "secret": False}}}, "env"),
    ({"env": {"A": {"value": "<${what}>", "secret": True}}}, "env"),
    ({"flink_configuration": {"metrics.x.token": {"value": "<${what}>", "secret": False}}}, "flink_configuration"),
]


@pytest.mark.parametrize(("body", "field"), SAID)
def test_a_value_that_comes_with_its_users_word_is_filled_in(body: dict[str, Any], field: str) -> None:
    after = filled({"script": f"{HOST}/job.py", **body})
    assert "'value': '<orders>'" in str(after[field])
    parse_resolved(after)


def test_a_secret_parameter_may_stand_in_a_variable_whose_user_says_so_too() -> None:
    said = {"value": "${password}", "secret": True}
    assert filled({"script": f"{HOST}/job.py", "env": {"A": said}}, password="x")["env"] == {
        "A": {**said, "value": "x"}
    }
    found = refusal({"script": f"{HOST}/job.py", "args": [{"value": "${password}"}]})
    assert "is secret" in found["args.0"]
    found = refusal({"script": f"{HOST}/job.py", "env": {"A": {"value": "${password}", "secret": False}}})
    assert "is secret" in found["env.A"]
    assert set(refusal({"script": f"{HOST}/job.py", "env": ["${password}"]})) == {"env"}


@given(st.text(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False, allow_infinity=False))
def test_the_tokens_are_the_templates_whatever_the_values(what: str, count: int, ratio: float) -> None:
    text = "INSERT INTO `${what}` SELECT '${what}', -${count}, (${ratio}) FROM a /*+ X('${what}') */; -- it's\r;"
    try:
        after = sql(text, what=what, count=count, ratio=ratio)
    except InvalidRequest:
        return
    example = sql(text, what="x", count=count, ratio=ratio)
    assert [found.lastgroup for found in scan(after)] == [found.lastgroup for found in scan(example)]


# Every field

PLACES: list[tuple[dict[str, Any], str]] = [
    ({"type": "JAR", "jar": f"{HOST}/app-${{version}}.jar"}, "jar"),
    ({"script": f"{HOST}/job-${{version}}.py"}, "script"),
    ({"script": f"{HOST}/job.py", "jar_files": [f"{HOST}/a-${{version}}.jar"]}, "jar_files"),
    ({"script": f"{HOST}/job.py", "jar_files": [{"url": f"{HOST}/a-${{version}}.jar"}]}, "jar_files"),
    ({"script": f"{HOST}/job.py", "jar_files": f"{HOST}/a-${{version}}.jar"}, "jar_files"),
    ({"script": f"{HOST}/job.py", "state": {"location": "s3://bucket/${version}"}}, "state"),
    ({"script": f"{HOST}/job.py", "image": "registry.example.com/flink:${version}"}, "image"),
    ({"script": f"{HOST}/job.py", "pod": {"annotations": {"example.com/v": "v${version}"}}}, "pod"),
    ({"script": f"{HOST}/job.py", "labels": {"version": "v${version}"}}, "labels"),
    ({"script": f"{HOST}/job.py", "args": ["--version", "${version}"]}, "args"),
    ({"script": f"{HOST}/job.py", "flink_configuration": {"pipeline.name": "v${version}"}}, "flink_configuration"),
    ({"type": "SQL", "script": {"name": "a.sql", "content": "INSERT INTO a SELECT '${version}';"}}, "script"),
    ({"type": "JAR", "jar": f"{HOST}/app.jar", "main_class": "com.example.${what}"}, "main_class"),
]


@pytest.mark.parametrize(("body", "field"), PLACES, ids=[str(place)[:60] for place, _ in PLACES])
def test_a_parameter_is_filled_in_in_every_field_that_takes_text(body: dict[str, Any], field: str) -> None:
    after = filled(body)
    assert "${" not in str(after)
    assert ("orders" if field == "main_class" else "1.2.3") in str(after[field])
    parse_resolved(after)


@pytest.mark.parametrize(("body", "field"), PLACES[:7], ids=[str(place)[:60] for place, _ in PLACES[:7]])
@pytest.mark.parametrize("value", ["../../x", "a/b", "evil.example.com/x#", "a?b", "a b", "a@b"])
def test_a_part_of_an_address_leads_nowhere_else(body: dict[str, Any], field: str, value: str) -> None:
    assert "is a part of an address" in refusal(body, version=value)["parameters.version"]


def test_a_whole_address_may_be_a_parameter() -> None:
    body = {"script": "${url}", "parameters": {"url": {"default": f"{HOST}/a/job.py"}}}
    template = parse_template({"template_id": "t", **body})
    assert resolve(template, {}, {"url": f"{HOST}/b/job.py"})["script"] == f"{HOST}/b/job.py"


def test_a_number_may_be_a_parameter() -> None:
    body = {"script": f"{HOST}/job.py", "parallelism": "${count}", "resources": {"task_manager": {"cpu": "${ratio}"}}}
    after = filled(body, count=4, ratio=1.5)
    assert (after["parallelism"], after["resources"]["task_manager"]["cpu"]) == (4, 1.5)


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"script": {"name": "job.py", "content": "print('${what}')"}}, "script.content", "a program's own text"),
        (
            {"script": f"{HOST}/job.py", "files": [{"name": "a.txt", "content": "${what}"}]},
            "files.0.content",
            "a program's own text",
        ),
        ({"type": "${what}", "script": f"{HOST}/job.py"}, "type", "may hold no parameter"),
        ({"type": "JAR", "jar": f"{HOST}/app-${{verion}}.jar"}, "jar", "did you mean ${version}?"),
        (
            {"script": f"{HOST}/a.py", "pod": {"annotations": {"a": "${b}"}}},
            "pod.annotations.a",
            "no declared parameter",
        ),
        ({"script": f"{HOST}/a.py", "labels": {"a": "${password}"}}, "labels.a", "is secret"),
        (
            {"script": f"{HOST}/a.py", "env": {"A": {"secret_key_ref": {"name": "${password}", "key": "k"}}}},
            "env.A.secret_key_ref.name",
            "is secret",
        ),
    ],
)
def test_what_is_not_filled_in_is_refused_when_it_is_registered(body: dict[str, Any], field: str, words: str) -> None:
    assert words in refusal(body)[field]


def test_a_program_may_have_placeholders_of_its_own() -> None:
    content = "from string import Template\nprint(Template('${mine}').substitute(mine=1))\n"
    assert filled({"script": {"name": "job.py", "content": content}})["script"]["content"] == content


def test_a_field_that_only_an_example_could_be_put_into_says_so() -> None:
    body = {"script": f"{HOST}/job.py", "resources": {"task_manager": {"memory": "${what}"}}}
    words = refusal(body)["resources.task_manager.memory"]
    assert words.endswith("; checked with an example for ${what}: give it a default or allowed_values")


def test_a_script_that_is_filled_in_is_not_held_to_the_hash_of_its_template() -> None:
    content = "INSERT INTO a SELECT '${what}';"
    script = {"name": "a.sql", "content": content, "sha256": hashlib.sha256(content.encode()).hexdigest()}
    after = parse_resolved(filled({"type": "SQL", "script": script}))
    assert after.script is not None
    assert not isinstance(after.script, str)
    assert after.script.content == "INSERT INTO a SELECT 'orders';"
    assert "damaged" in refusal({"type": "SQL", "script": {**script, "sha256": "0" * 64}})["script"]


@pytest.mark.parametrize("field", ["sql", "labels", "jar_files", "args"])
def test_a_template_is_measured_before_it_is_filled_in(field: str) -> None:
    text = "'" + "${what}" * 40_000 + "'"
    body: dict[str, Any] = {"type": "SQL", "sql": f"INSERT INTO t SELECT {text};"}
    if field != "sql":
        body = {"script": f"{HOST}/job.py", field: {"a": text} if field == "labels" else [text]}
    template = {"template_id": "t", "parameters": {"what": {"default": "x" * 9000}}, **body}
    begun = time.process_time()
    with pytest.raises(InvalidRequest, match=f"and {MOST_FILLED_CHARACTERS} are taken at most"):
        parse_template(template)
    assert time.process_time() - begun < 5


def test_what_a_template_declares_does_not_multiply_what_it_says() -> None:
    """A submit of a few bytes would else cost their product."""
    text = "INSERT INTO t SELECT " + "'a', " * 15_000 + "'${p0}';"

    def seconds(parameters: int) -> float:
        declared = {f"p{number}": {"default": "x"} for number in range(parameters)}
        template = parse_template({"template_id": "t", "type": "SQL", "sql": text, "parameters": declared})
        begun = time.process_time()
        resolve(template, {}, {"p0": "y"})
        return time.process_time() - begun

    def least(parameters: int) -> float:
        return min(seconds(parameters) for _ in range(3))  # a machine that is busy makes one of them long

    assert least(1000) < 10 * max(least(1), 0.05)
