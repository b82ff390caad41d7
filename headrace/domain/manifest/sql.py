"""SQL: a file of statements, run through the Table API by sql_runner inside the Flink image. Pure."""

from __future__ import annotations

from headrace.domain.flink_options import rules_of_names
from headrace.domain.flink_sql import SettingRules
from headrace.domain.job_requests import JobRequest
from headrace.domain.manifest.programs import FILES, Program, Source, file_name, source_of
from headrace.domain.manifest.python_script import PYTHON_DRIVER, PYTHON_JAR, python_configuration
from headrace.domain.policy import Policy
from headrace.domain.sources import SQL_FILE, SourceFile

SQL_RUNNER = "/opt/headrace/sql_runner.py"
SETTING_RULES = "HEADRACE_SQL_SETTINGS"


def program(request: JobRequest, policy: Policy) -> Program:
    """The PythonDriver with our runner of statements. A script that comes by its URL has been read by nobody: the
    runner gets the rules of what it may SET."""
    source = _source(request)
    env = (
        {SETTING_RULES: SettingRules(*rules_of_names(policy.flink_configuration)).as_json()}
        if isinstance(request.script, str)
        else {}
    )
    arguments = ["-py", SQL_RUNNER, "--", source.path]
    job = {"jarURI": PYTHON_JAR, "entryClass": PYTHON_DRIVER, "args": arguments}
    return Program(job, source.fetched, python_configuration(request), env)


def _source(request: JobRequest) -> Source:
    if isinstance(request.script, SourceFile):
        return Source(f"{FILES}/{request.script.name}")
    if request.script is None:
        return Source(f"{FILES}/{SQL_FILE}")
    return source_of("SCRIPT_URL", request.script, request.sha256, file_name(request.script, ".sql", SQL_FILE))
