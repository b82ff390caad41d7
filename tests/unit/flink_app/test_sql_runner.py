"""The SQL runner without Flink: how a script is split, what is refused before anything runs, and what is printed."""

import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flink_app.flink_sql import Kind, ScriptError, SettingRules, check, runtime_mode, setting, statements
from flink_app.sql_runner import Runner, main, reason, without

RUNNER = Path(__file__).parents[3] / "flink_app" / "sql_runner.py"
INSERT = "INSERT INTO a SELECT 1;\n"


def texts(script: str) -> list[str]:
    return [statement.sql().strip() for statement in statements(script)]


def refusal(script: str) -> str:
    """Why the script is refused before anything runs."""
    with pytest.raises(ScriptError) as refused:
        check(statements(dedent(script)))
    return str(refused.value)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("", []),
        ("-- nothing; here", []),
        (" ;; /* nor ; here */ ;\n", []),
        ("USE a; USE b", ["USE a", "USE b"]),
        ("SELECT ';'; USE b;", ["SELECT ';'", "USE b"]),
        ("SELECT 'it''s; ok'; USE b;", ["SELECT 'it''s; ok'", "USE b"]),
        ("SELECT ''; USE b;", ["SELECT ''", "USE b"]),
        ("SELECT `a;b``c;`; USE b;", ["SELECT `a;b``c;`", "USE b"]),
        ("USE a -- it's; not over\n.b; USE c;", ["USE a -- it's; not over\n.b", "USE c"]),
        ("USE a // it's; not over\n.b; USE c;", ["USE a // it's; not over\n.b", "USE c"]),
        ("USE a /* it's; ** not; over */ .b; USE c", ["USE a /* it's; ** not; over */ .b", "USE c"]),
        ("/**/USE a;/** **/USE b", ["USE a", "USE b"]),
        ("USE a;/***/USE b; // it goes on\n*/USE c", ["USE a", "USE c"]),
        ("USE a /*+ X *//* it's; one */.b; USE c", ["USE a /*+ X *//* it's; one */.b", "USE c"]),
        ("USE a -- it's\r.b; USE c\r\n;", ["USE a -- it's\r.b", "USE c"]),
        ("SELECT E'\\';', 1E'\\';'; USE b", ["SELECT E'\\';', 1E'\\';'", "USE b"]),
        ("SELECT aE'\\'; USE b", ["SELECT aE'\\'", "USE b"]),
        ("SELECT U&'\\'; USE U&\"a;'b\"", ["SELECT U&'\\'", 'USE U&"a;\'b"']),
        ("SELECT N';', X'0a;', _utf8';'; USE b", ["SELECT N';', X'0a;', _utf8';'", "USE b"]),
        ("SELECT 1 -1; SELECT 4 / 2", ["SELECT 1 -1", "SELECT 4 / 2"]),
        ("SELECT '--'; USE b", ["SELECT '--'", "USE b"]),
        ("SELECT '/*'; USE b -- */", ["SELECT '/*'", "USE b"]),
        ("SELECT * FROM a /*+ OPTIONS('x'='*/;') */; USE b", ["SELECT * FROM a /*+ OPTIONS('x'='*/;') */", "USE b"]),
        ("CREATE FUNCTION f AS 'a.B'; USE b", ["CREATE FUNCTION f AS 'a.B'", "USE b"]),
        ("EXECUTE PLAN '/p;q.json'; USE b", ["EXECUTE PLAN '/p;q.json'", "USE b"]),
    ],
)
def test_a_script_is_split_where_a_statement_ends(script: str, expected: list[str]):
    assert texts(script) == expected


@pytest.mark.parametrize(
    "script",
    [
        "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; INSERT INTO b SELECT CASE WHEN x THEN 1 END; END; USE c",
        "execute statement\n set /* ; */ begin\nINSERT INTO a SELECT 1;\nINSERT INTO b SELECT 2;\nend;\nUSE c;",
        "BEGIN STATEMENT SET; INSERT INTO a SELECT 1; INSERT INTO b SELECT 2; END; USE c",
    ],
)
def test_a_statement_set_is_one_statement_with_its_inserts(script: str):
    whole, after = statements(script)
    assert whole.is_statement_set
    assert whole.kind is Kind.JOB
    assert [insert.sql().split()[2] for insert in whole.inserts] == ["a", "b"]
    assert {insert.number for insert in whole.inserts} == {1}
    assert (after.number, after.sql().strip()) == (2, "USE c")


def test_an_explained_statement_set_stays_whole():
    explained, insert = statements("EXPLAIN STATEMENT SET BEGIN INSERT INTO a SELECT 1; END; INSERT INTO a SELECT 1;")
    assert explained.kind is Kind.OTHER
    assert explained.sql() == "EXPLAIN STATEMENT SET BEGIN INSERT INTO a SELECT 1; END"
    assert insert.number == 2


def test_flink_sees_each_statement_at_its_line_and_column():
    first, second, third = statements("-- first\nUSE a;\n\n  /* why */ USE\n b; USE c;")
    assert first.sql() == "\nUSE a"
    assert second.sql() == "\n\n\n            USE\n b"
    assert third.sql() == "\n\n\n\n    USE c"
    assert [each.place for each in (first, second, third)] == [
        "statement 1, line 2",
        "statement 2, line 4",
        "statement 3, line 5",
    ]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("USE a;\nSELECT 'abc\nUSE b;", "line 2: the string that begins here has no end"),
        ("SELECT 'a''b", "line 1: the string that begins here has no end"),
        ("USE `a\n", "line 1: the quoted name that begins here has no end"),
        ("USE a;\rUSE ``.b;", "line 2: the quoted name that begins here is empty"),
        ("USE a;\n/***/ USE b;", "line 2: the comment that begins here has no end: in /***/ it goes on, to Flink"),
        ("USE a;\n\n/* USE b;", "line 3: the comment that begins here has no end"),
        (
            "USE a;\nBEGIN STATEMENT SET;\nINSERT INTO a SELECT 1;",
            "statement 2, line 2: the statement set that begins here has no END;",
        ),
        (
            "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT CASE WHEN x THEN 1 END;",
            "statement 1, line 1: the statement set that begins here has no END;",
        ),
    ],
)
def test_what_never_ends_is_named_by_where_it_begins(script: str, why: str):
    assert refusal(script) == why


@pytest.mark.timeout(30)  # a pattern that goes back and forth would take hours
@pytest.mark.parametrize("goes_on", ["a", "''", "a''", "``", "a``b", "*", "* /", "\n"])
@pytest.mark.parametrize("begun", ["'", "`", "/*", "USE a /*+ '"])
def test_a_long_script_without_an_end_is_refused_at_once(begun: str, goes_on: str):
    refused = refusal(begun + goes_on * 100_000)
    assert refused.startswith("line 1: the ")
    assert refused.endswith(" that begins here has no end")


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "long", ["'" + "''" * 100_000 + "'", "`" + "a``" * 100_000 + "`", "'" + "--/*`" * 100_000 + "'"]
)
def test_what_is_long_is_read_whole(long: str):
    assert texts(f"USE {long}; USE b /*{'** /' * 100_000}*/") == [f"USE {long}", "USE b"]


COMMENTS = [" -- it's; one\n", " /* it's;\n another ` */", " // ;'\n"]
BLANKS = st.sampled_from(["\n", " ", "\n\n  ", "\r\n", "\t", *COMMENTS])
PARTS = st.one_of(
    st.sampled_from(["x", "1", "(", ")", "=", "END", "begin", "-", "*", "/", '"', "é", "/*+ HINT('*/;') */", "$"]),
    st.text(alphabet="a;'\n-/*`", max_size=8).map(lambda text: "'" + text.replace("'", "''") + "'"),
    st.text(alphabet="a;'-/*`", min_size=1, max_size=8).map(lambda text: "`" + text.replace("`", "``") + "`"),
)
ONE = st.lists(st.tuples(BLANKS, PARTS), max_size=6).map(lambda parts: "USE" + "".join(b + p for b, p in parts))


@given(st.lists(st.tuples(st.lists(BLANKS, max_size=3).map("".join), ONE, BLANKS), max_size=5))
def test_what_is_joined_comes_back_with_its_lines(written: list[tuple[str, str, str]]):
    script, lines = "", []
    for before, statement, after in written:
        script += before
        lines.append(script.count("\n") + 1)
        script += statement + after + ";"
    found = statements(script)
    assert [each.sql().strip() for each in found] == [statement for _, statement, _ in written]
    assert [each.line for each in found] == lines
    assert [each.sql().count("\n", 0, each.sql().index("USE")) + 1 for each in found] == lines


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("SET 'a.b' = 'c'", ("a.b", "c")),
        ("set 'a.b'='it''s; c'", ("a.b", "it's; c")),
        ("SET a.b = 10 s", ("a.b", "10 s")),
        ("SET a.b-c=true -- as it is", ("a.b-c", "true")),
        ("SET 'a' = 'b=c'", ("a", "b=c")),
    ],
)
def test_a_setting_is_read_with_and_without_quotes(script: str, expected: tuple[str, str]):
    assert setting(statements(script)[0]) == expected


@pytest.mark.parametrize(
    ("script", "mode"),
    [
        (INSERT, None),
        (f"SET 'execution.runtime-mode' = 'batch'; {INSERT}", "batch"),
        (f"SET 'a' = 'b'; SET execution.runtime-mode = STREAMING; {INSERT}", "streaming"),
    ],
)
def test_the_runtime_mode_is_what_the_script_says_first(script: str, mode: str | None):
    check(statements(script))
    assert runtime_mode(statements(script)) == mode


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("INSERT INTO a SELECT 1", Kind.JOB),
        ("insert overwrite a select 1", Kind.JOB),
        ("EXECUTE INSERT INTO a SELECT 1", Kind.JOB),
        ("EXECUTE PLAN 'p.json'", Kind.JOB),
        ("COMPILE AND EXECUTE PLAN 'p.json' FOR INSERT INTO a SELECT 1", Kind.JOB),
        ("DELETE FROM a WHERE b = 1", Kind.JOB),
        ("UPDATE a SET b = 1", Kind.JOB),
        ("CREATE TABLE a WITH ('x' = 'y') AS SELECT 1", Kind.JOB),
        ("CREATE OR REPLACE TABLE a AS SELECT 1", Kind.JOB),
        ("CREATE TABLE a (b INT, c AS b + 1, d AS PROCTIME())", Kind.OTHER),
        ("CREATE TEMPORARY VIEW a AS SELECT 1", Kind.OTHER),
        ("CREATE FUNCTION a AS 'b'", Kind.OTHER),
        ("EXPLAIN PLAN FOR INSERT INTO a SELECT 1", Kind.OTHER),
        ("COMPILE PLAN 'p.json' FOR INSERT INTO a SELECT 1", Kind.OTHER),
        ("SHOW TABLES", Kind.OTHER),
        ("CALL sys.compact('db.t')", Kind.CALL),
        ("quit", Kind.END),
        ("EXIT", Kind.END),
        ("CLEAR", Kind.CLIENT),
        ("SELECT 1", Kind.QUERY),
        ("(SELECT 1)", Kind.QUERY),
        ("WITH a AS (SELECT 1) SELECT * FROM a", Kind.QUERY),
        ("VALUES (1)", Kind.QUERY),
    ],
)
def test_what_starts_a_job_is_told_from_the_rest(statement: str, kind: Kind):
    assert statements(statement)[0].kind is kind


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (" -- nothing\n", "the script holds no statement"),
        ("USE a; SET 'b' = 'c';", "the script starts no job: it has no INSERT and no statement set"),
        (
            f"USE a;\n{INSERT}CREATE TABLE b\nAS SELECT 1;",
            "statement 2, line 2 and statement 3, line 3 start a job each, and a script may start one: "
            "put the INSERTs between EXECUTE STATEMENT SET BEGIN and END;",
        ),
        (
            f"{INSERT}\nSELECT * FROM a;",
            "statement 2, line 3: nobody would see the rows of a query: write INSERT INTO a table",
        ),
        ("BEGIN STATEMENT SET; END;", "statement 1, line 1: the statement set is empty"),
        (
            f"EXECUTE STATEMENT SET BEGIN\n{INSERT}USE b;\nEND;",
            "statement 1, line 3: only INSERTs may stand in a statement set",
        ),
        (
            "USE CATALOG p;\nCALL sys.compact('db.t');",
            "statement 2, line 2: a CALL runs a procedure, and no other statement starts a job: run it by the SQL "
            "client of a session cluster, or by a JAR job, where its connector has a jar for that",
        ),
        (
            f"USE a; QUIT;\n{INSERT}",
            "statement 3, line 2: nothing runs behind QUIT: take one of the two out",
        ),
        (
            "USE a;\nINSERT INTO a SELECT '${b}'\nFROM ${c}.d;",
            "line 3: nothing fills in ${c}: a template's parameters do",
        ),
        (f"CLEAR; {INSERT}", "statement 1, line 1: CLEAR is for the SQL client's screen: take it out"),
        (f"SET a; {INSERT}", "statement 1, line 1: a SET reads SET 'key' = 'value'"),
        (f"SET U&'a' = 'b'; {INSERT}", "statement 1, line 1: a SET reads SET 'key' = 'value'"),
        (f"SET = b; {INSERT}", "statement 1, line 1: a SET reads SET 'key' = 'value'"),
        (f"RESET; {INSERT}", "statement 1, line 1: a RESET reads RESET 'key'"),
        (
            f"USE a; SET 'execution.runtime-mode' = 'batch'; {INSERT}",
            "statement 2, line 1: 'execution.runtime-mode' must be SET before any other statement",
        ),
        (
            f"SET 'execution.runtime-mode' = 'automatic'; {INSERT}",
            "statement 1, line 1: 'execution.runtime-mode' is 'streaming' or 'batch', got 'automatic'",
        ),
    ],
)
def test_what_cannot_run_is_refused_with_its_place_and_what_to_do(script: str, why: str):
    assert refusal(script) == why


@pytest.mark.parametrize("end", ["QUIT;", "exit;", "QUIT; -- good bye\n"])
def test_a_script_that_ends_as_a_session_does_runs_without_that(end: str):
    script = statements(INSERT + end)
    check(script)
    ran: list[str] = []
    Runner(Recorder(ran), waits=False).run(script)
    assert ran == ["INSERT INTO a SELECT 1"]


class Recorder:
    """A table environment that writes down what it is asked to run."""

    def __init__(self, ran: list[str]) -> None:
        self._ran = ran

    def execute_sql(self, sql: str) -> None:
        self._ran.append(sql.strip())


@pytest.mark.parametrize(
    "joined", ["x--y$z", "a.b$c", "1$b", "t.a-b:c$d", "x._a-b'c'", "SELECT a-$b"], ids=lambda text: text
)
def test_what_flink_reads_as_one_name_is_refused_where_it_looks_like_more(joined: str):
    with pytest.raises(ScriptError, match=r"^line 2: words that .* joins are one name of a collation to Flink"):
        statements(f"USE a;\nINSERT INTO a SELECT {joined}\n;")


@pytest.mark.parametrize(
    "joined",
    ["a$b", "x --y$z", "'x--y$z'", "-- t.a$b", "f(x).a$b", "a_b.c_d-INTERVAL'4'HOUR", "t.a-_utf8'x'", "`a.b$c`"],
)
def test_what_flink_reads_as_several_is_taken(joined: str):
    statements(f"USE a;\nINSERT INTO a SELECT {joined}\n;")


RULES = SettingRules(refused={"a.b": "it is so", "c.": "ask", "c.d.": "ask again"}, allowed=("a.", "e", "c."))


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("a.b", "it is so"),
        ("a.bc", None),
        ("c.x", "ask"),
        ("c.d.e", "ask again"),
        ("e", None),
        ("e.f", "it is none of the options that a job may set; those begin with a, c, e"),
        ("sql-client.verbose", None),
    ],
)
def test_what_a_script_may_set_is_what_the_rules_say(key: str, why: str | None):
    assert RULES.problem_of(key) == why
    assert SettingRules.from_json(RULES.as_json()) == RULES
    script = statements(f"SET '{key}' = 'hunter2';\n{INSERT}")
    if why is None:
        return check(script, RULES)
    with pytest.raises(ScriptError) as refused:
        check(script, RULES)
    assert str(refused.value) == f"statement 1, line 1: '{key}' may not be SET: {why}"
    check(script)
    return None


@pytest.mark.parametrize("rules", ["", "[]", "{}", '{"refused": [], "allowed": []}', '{"refused": {}, "allowed": 1}'])
def test_rules_that_cannot_be_read_are_none(rules: str):
    with pytest.raises(ScriptError, match="cannot be read: Headrace and the image differ"):
        SettingRules.from_json(rules)


def test_a_script_is_read_up_to_a_bound():
    with pytest.raises(ScriptError, match=r"^line 1: the script goes on behind 250000 words and signs"):
        statements("a;" * 125_001)


@pytest.mark.parametrize("environment", [None, {"HEADRACE_OUTPUT": "/out", "A": "a"}], ids=["before", "in the pod"])
@pytest.mark.parametrize("variable", ["${HEADRACE_OUTPUT}", "${env:A}"])
@pytest.mark.parametrize("place", ["SET 'x' = E'%s';", 'USE U&"%s"'])
def test_a_variable_stands_in_plain_strings_alone(place: str, variable: str, environment: dict[str, str] | None):
    with pytest.raises(ScriptError, match=f"^line 1: {re.escape(variable)} stands in a plain string alone"):
        statements(place % variable, environment)


def test_a_variable_of_the_environment_stands_nowhere_without_quotes():
    with pytest.raises(ScriptError, match=r"^line 2: \$\{env:A\} stands in a plain string alone: '\$\{env:A\}'$"):
        statements("USE a;\nINSERT INTO a SELECT ${env:A};", {"A": "1"})


def test_without_an_environment_a_script_is_as_it_is_written(monkeypatch: pytest.MonkeyPatch):
    """So Headrace reads it, whose own environment is no job's."""
    monkeypatch.setenv("A", "hunter2")
    (statement,) = statements("SET 'x' = '${env:A}${HEADRACE_OUTPUT}${env:NOT_THERE}';")
    assert setting(statement) == ("x", "${env:A}${HEADRACE_OUTPUT}${env:NOT_THERE}")


def test_no_key_of_a_setting_comes_from_the_environment():
    (statement,) = statements("SET '${env:A}' = 'x';", {"A": "hunter2"})
    with pytest.raises(ScriptError, match=r"^statement 1, line 1: a SET reads SET 'key' = 'value'$"):
        check([statement])


def test_what_a_variable_says_is_filled_in_once():
    (statement,) = statements("SET 'x' = '${HEADRACE_OUTPUT}';", {"HEADRACE_OUTPUT": "${env:A}", "A": "hunter2"})
    assert setting(statement) == ("x", "${env:A}")


def test_a_value_of_the_environment_does_not_come_back_where_a_script_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MODE", "hunter2")
    (tmp_path / "a.sql").write_text(f"SET 'execution.runtime-mode' = '${{env:MODE}}';\n{INSERT}")
    assert main([str(tmp_path / "a.sql")]) == 1
    assert "is 'streaming' or 'batch', got '…'" in capsys.readouterr().err


def test_the_output_folder_stands_in_strings_alone_and_cannot_leave_them():
    script = "-- ${HEADRACE_OUTPUT}\nCREATE TABLE a WITH ('path' = '${HEADRACE_OUTPUT}/b', c = `${HEADRACE_OUTPUT}`)"
    (statement,) = statements(script, {"HEADRACE_OUTPUT": "/it's'; DROP TABLE a; --"})
    assert statement.sql().strip() == (
        "CREATE TABLE a WITH ('path' = '/it''s''; DROP TABLE a; --/b', c = `${HEADRACE_OUTPUT}`)"
    )


def test_an_output_folder_that_is_not_given_is_named_with_the_line():
    with pytest.raises(ScriptError, match=r"^line 2: \$\{HEADRACE_OUTPUT\} has no value: set HEADRACE_OUTPUT in"):
        statements("USE a;\nSET 'x' = '${HEADRACE_OUTPUT}';", {"HEADRACE_OUTPUT": ""})


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        ("CREATE TABLE a (b INT)\n  WITH ('password' = 'x')", "CREATE TABLE a (b INT) WITH ('…' = '…')"),
        ("USE a -- the password is x\n.b /* or y */", "USE a .b"),
        ("SET s3.secret-key = x", "SET s3.secret-key = …"),
        ("SET 's3.secret-key' = 'x'", "SET s3.secret-key = …"),
        ("USE " + "a" * 100, "USE " + "a" * 75 + "…"),
    ],
)
def test_what_is_printed_of_a_statement_holds_no_values(statement: str, shown: str):
    assert statements(statement)[0].shown() == shown


def test_secrets_do_not_come_back_in_a_reason():
    options = "'url' = 'jdbc://u:pw@h/d', 'password' = 'hunter''2', 'user' = 'me'"
    table, token = statements(f"CREATE TABLE a (b INT) WITH ({options}); SET t.token = x9")
    assert table.secrets() == {"hunter'2"}
    assert token.secrets() == {"x9"}
    said = "me: hunter'2, that is 'hunter''2', is no password for jdbc://u:pw@h/d, nor x9"
    shown = "me: …, that is '…', is no password for jdbc://…@h/d, nor …"
    assert without(table.secrets() | token.secrets(), said) == shown


def test_a_value_of_the_environment_stands_in_strings_alone_and_cannot_leave_them():
    script = (
        "-- ${env:NONE}\nCREATE TABLE a (b INT) WITH ('password' = '${env:DB_PASSWORD}', 'x' = '$${env:DB_PASSWORD}')"
    )
    (statement,) = statements(script, {"DB_PASSWORD": "it's; DROP TABLE a"})
    assert statement.sql().strip() == (
        "CREATE TABLE a (b INT) WITH ('password' = 'it''s; DROP TABLE a', 'x' = '$it''s; DROP TABLE a')"
    )


def test_a_value_of_the_environment_does_not_come_back_in_a_reason_whatever_the_option():
    script = "CREATE TABLE a (b INT) WITH ('url' = '${env:ADDRESS}&x=1')"
    (statement,) = statements(script, {"ADDRESS": "jdbc://db?k=hunter2"})
    assert without(statement.secrets(), "cannot reach jdbc://db?k=hunter2&x=1") == "cannot reach …&x=1"


def test_a_variable_that_is_not_set_is_named_with_its_line():
    with pytest.raises(ScriptError, match=r"^line 2: \$\{env:DB_PASSWORD\} has no value: set DB_PASSWORD in"):
        statements("USE a;\nSET 'x' = '${env:DB_PASSWORD}';", {})


FLINK = "org.apache.flink.table.api"
TRACES = {
    "a root cause that the outermost repeats": (
        f"""\
        An error occurred while calling o8.executeSql.
        : {FLINK}.ValidationException: SQL validation failed. SQL validation failed. At line 3: Object 'x' not found
        \tat org.apache.flink.A.b(A.java:1)
        Caused by: org.apache.calcite.runtime.CalciteContextException: At line 3: Object 'x' not found
        \tat java.base/java.lang.A.b(Unknown Source)
        \t... 13 more
        Caused by: org.apache.calcite.sql.validate.SqlValidatorException: Object 'x' not found
        \tat org.apache.flink.A.b(A.java:1)
        """,
        "SQL validation failed. At line 3: Object 'x' not found",
    ),
    "the parser's list of keywords is left out": (
        f"""\
        : {FLINK}.SqlParserException: SQL parse failed. Encountered "FORM" at line 3, column 9.
        Was expecting one of:
            "ABS" ...
            <EOF>

        \tat org.apache.flink.A.b(A.java:1)
        """,
        'SQL parse failed. Encountered "FORM" at line 3, column 9.',
    ),
    "a table's options are left out, the root cause's paragraphs are not": (
        f"""\
        : {FLINK}.ValidationException: Unable to create a sink for writing table 'a.b.c'.

        Table options are:

        'connector'='nope'
        'password'='x'
        \tat org.apache.flink.A.b(A.java:1)
        Caused by: {FLINK}.ValidationException: Could not find any factory for identifier 'nope'.

        Available factory identifiers are:

        blackhole
        print
        \tat org.apache.flink.A.b(A.java:1)
        """,
        "Unable to create a sink for writing table 'a.b.c': Could not find any factory for identifier 'nope'. "
        "Available factory identifiers are: blackhole print",
    ),
    "a class that says more than its message": (
        f"""\
        {FLINK}.TableException: Failed to execute sql
        \tat org.apache.flink.A.b(A.java:1)
        Caused by: java.lang.ClassNotFoundException: no.such.Class
        \tat org.apache.flink.A.b(A.java:1)
        """,
        "Failed to execute sql: ClassNotFoundException: no.such.Class",
    ),
    "wrappers say nothing of their own": (
        f"""\
        : java.util.concurrent.ExecutionException: {FLINK}.TableException: Failed to wait job finish
        \tat org.apache.flink.A.b(A.java:1)
        Caused by: {FLINK}.TableException: Failed to wait job finish
        \tat org.apache.flink.A.b(A.java:1)
        Caused by: java.lang.NullPointerException
        \tat org.apache.flink.A.b(A.java:1)
        """,
        "Failed to wait job finish: NullPointerException",
    ),
    "a Python function's last line": (
        """\
        : java.lang.IllegalStateException: Instantiating python function 'm.f' failed.
        \tat org.apache.flink.A.b(A.java:1)
        Caused by: java.lang.reflect.InvocationTargetException
        \tat org.apache.flink.A.b(A.java:1)
        Caused by: org.apache.flink.api.python.shaded.py4j.Py4JException: Message: Traceback (most recent call last):
          File "a.py", line 1, in b
            return 1
        ModuleNotFoundError: No module named 'm'

        \tat org.apache.flink.A.b(A.java:1)
        """,
        "Instantiating python function 'm.f' failed: ModuleNotFoundError: No module named 'm'",
    ),
    "what is no Java trace": ("Answer from Java side\nis empty", "Answer from Java side is empty"),
}


@pytest.mark.parametrize(("trace", "expected"), TRACES.values(), ids=TRACES)
def test_a_reason_is_one_line(trace: str, expected: str):
    assert reason(dedent(trace)) == expected


def test_a_reason_is_never_long():
    assert len(reason("x" * 5000)) == 600


def ended(*arguments: str, rules: str = "") -> tuple[int, str]:
    command, environment = [sys.executable, str(RUNNER), *arguments], {**os.environ, "HEADRACE_SQL_SETTINGS": rules}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.strip()


def test_a_refused_script_ends_in_one_line_without_a_start_of_flink(tmp_path: Path):
    script = tmp_path / "two.sql"
    script.write_text(f"{INSERT}-- again\n{INSERT}")
    code, said = ended(str(script), "--", "ignored", "-p", "4")
    assert code == 1
    assert said.startswith("statement 1, line 1 and statement 2, line 3 start a job each")
    assert len(said.splitlines()) == 1


def test_what_a_script_may_not_set_ends_it_before_a_start_of_flink(tmp_path: Path):
    script = tmp_path / "set.sql"
    script.write_text(f"SET 'a.b' = 'hunter2';\n{INSERT}")
    code, said = ended(str(script), rules=RULES.as_json())
    assert (code, said) == (1, "statement 1, line 1: 'a.b' may not be SET: it is so")


def test_a_script_may_begin_with_a_byte_order_mark(tmp_path: Path):
    script = tmp_path / "marked.sql"
    script.write_bytes(b"\xef\xbb\xbfSELECT 1;")
    code, said = ended(str(script))
    assert (code, said.partition(":")[0]) == (1, "statement 1, line 1")


def test_a_script_that_cannot_be_read_is_named(tmp_path: Path):
    script = tmp_path / "absent.sql"
    assert ended(str(script)) == (1, f"script {script} cannot be read: No such file or directory")
    script.write_bytes(b"\xff\xfe")
    assert ended(str(script)) == (1, f"script {script} cannot be read: it is not UTF-8 text")
