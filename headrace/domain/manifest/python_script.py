"""PYTHON_SCRIPT: a Python file, alone or in a folder, in a Flink application. Pure.

Follows PythonDriver: what is behind `--` reaches the script untouched. Flink 1.20's takes no other option than -py, so
interpreters, modules and requirements are said in the configuration, which both read.
"""

from __future__ import annotations

from headrace.domain.job_requests import JobRequest
from headrace.domain.manifest.programs import ENTRYPOINT, FILES, Program, Source, file_name, source_of
from headrace.domain.policy import Policy
from headrace.domain.sources import REQUIREMENTS, SourceFile

PYTHON_JAR = "local:///opt/headrace/flink-python.jar"
PYTHON_DRIVER = "org.apache.flink.client.python.PythonDriver"
INTERPRETERS = {"python.client.executable": "python3", "python.executable": "python3"}


def program(request: JobRequest, _: Policy) -> Program:
    """The PythonDriver with our entrypoint, which checks the script and runs it as `__main__`."""
    source = _source(request)
    required = ["--requirements", f"{FILES}/{REQUIREMENTS}"] if _has_requirements(request) else []
    arguments = ["-py", ENTRYPOINT, "--", "run", source.path, *required, "--", *map(str, request.args)]
    job = {"jarURI": PYTHON_JAR, "entryClass": PYTHON_DRIVER, "args": arguments}
    return Program(job, source.fetched, python_configuration(request))


def python_configuration(request: JobRequest) -> dict[str, str]:
    """The interpreters, and what TaskManagers import: the other modules of a folder, and its requirements."""
    given = {**INTERPRETERS, **request.flink_configuration}
    found = {key: str(given[key]) for key in INTERPRETERS}
    if any(file.name.endswith(".py") for file in request.files):
        found["python.files"] = ",".join(filter(None, (FILES, given.get("python.files"))))
    if _has_requirements(request):
        found["python.requirements"] = f"{FILES}/{REQUIREMENTS}"
    return found


def _has_requirements(request: JobRequest) -> bool:
    return any(file.name == REQUIREMENTS for file in request.files)


def _source(request: JobRequest) -> Source:
    if isinstance(request.script, SourceFile):
        return Source(f"{FILES}/{request.script.name}")
    url = request.script or ""
    return source_of("SCRIPT_URL", url, request.sha256, file_name(url, ".py", "job.py"))
