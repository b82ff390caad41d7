"""JAR: a main class of a jar, in the image or fetched. Pure."""

from __future__ import annotations

from headrace.domain.job_requests import JobRequest
from headrace.domain.manifest.programs import USRLIB, Program, file_name, source_of
from headrace.domain.policy import Policy


def program(request: JobRequest, _: Policy) -> Program:
    """The user's jar and main class; without one the jar's own manifest names it."""
    url = request.jar or ""
    name = file_name(url, ".jar", "job.jar")
    # Jars for the class path are mounted over usrlib: a jar that the image has there is taken out before.
    hidden = bool(request.jar_files) and url.startswith(f"local://{USRLIB}/")
    source = source_of("JAR_URL", url, request.sha256, name, copied=hidden)
    job = {"jarURI": f"local://{source.path}", "args": [str(argument) for argument in request.args]}
    return Program(job | ({"entryClass": request.main_class} if request.main_class else {}), source.fetched)
