"""PYTHON_SCRIPT: a Python file, alone or in a folder, in a Flink application. Pure.

Follows PythonDriver: Flink's own options come before `--`, and what is behind it reaches the script untouched.
"""

from __future__ import annotations

from headrace.domain.manifest.programs import ENTRYPOINT, FILES, Program, Source, file_name, source_of
from headrace.domain.templates import REQUIREMENTS, JobRequest, SourceFile

PYTHON_JAR = "local:///opt/flink/opt/flink-python.jar"
PYTHON_DRIVER = "org.apache.flink.client.python.PythonDriver"
INTERPRETER = ("-pyclientexec", "python3", "-pyexec", "python3")


def program(request: JobRequest) -> Program:
    """The PythonDriver with our entrypoint, which checks the script and runs it as `__main__`."""
    source = _source(request)
    requirements = f"{FILES}/{REQUIREMENTS}" if _has_requirements(request) else None
    run = ["run", source.path, *(("--requirements", requirements) if requirements else ()), "--", *request.args]
    arguments = [*INTERPRETER, *python_files(request), "-py", ENTRYPOINT, "--", *run]
    return Program({"jarURI": PYTHON_JAR, "entryClass": PYTHON_DRIVER, "args": arguments}, source.fetched)


def python_files(request: JobRequest) -> list[str]:
    """Flink's options for what TaskManagers import: the other modules of a folder, and its requirements."""
    modules = any(file.name.endswith(".py") for file in request.files)
    required = ["-pyreq", f"{FILES}/{REQUIREMENTS}"] if _has_requirements(request) else []
    return [*(("-pyfs", FILES) if modules else ()), *required]


def _has_requirements(request: JobRequest) -> bool:
    return any(file.name == REQUIREMENTS for file in request.files)


def _source(request: JobRequest) -> Source:
    if isinstance(request.script, SourceFile):
        return Source(f"{FILES}/{request.script.name}")
    url = request.script or ""
    return source_of("SCRIPT_URL", url, request.sha256, file_name(url, ".py", "job.py"))
