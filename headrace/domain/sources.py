"""Where a program's files come from: a URL, a path in the image, or the user's disk. No I/O here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from headrace.domain.validation import matching


class Part(BaseModel):
    """A part of a template: frozen, with unknown fields refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Digest = Annotated[str, matching(r"[0-9a-fA-F]{64}", "must be a SHA-256 in 64 hex digits")]

CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
MOST_FILE_BYTES = 900_000
"""What a ConfigMap takes, with room for its own fields: Kubernetes' own limit is 1 MiB."""

_FILE_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*){0,9}")
SQL_FILE = "job.sql"
REQUIREMENTS = "requirements.txt"


class SourceFile(Part):
    """A file from the user's disk: its path below the job's folder, its text and the SHA-256 of that text in UTF-8.
    `secret: false` is its user's word that what looks like a secret in it is none."""

    name: str = Field(max_length=200)
    content: str
    sha256: Digest
    secret: Literal[False] | None = None

    @model_validator(mode="before")
    @classmethod
    def _has_its_hash(cls, file: Any) -> Any:
        if isinstance(file, Mapping) and isinstance(file.get("content"), str):
            found = hashlib.sha256(file["content"].encode(errors="surrogatepass")).hexdigest()
            given = file.get("sha256") or found
            if isinstance(given, str) and given.lower() != found:
                raise ValueError(f"sha256 is not that of the content, which is {found}: it was damaged on its way")
            return {**file, "sha256": found}
        return file

    @field_validator("name")
    @classmethod
    def _name_is_a_path_below(cls, name: str) -> str:
        if not _FILE_PATH.fullmatch(name):
            raise ValueError("must be a path of letters, digits, '_', '-' and '.' below the job's folder")
        return name

    @field_validator("content")
    @classmethod
    def _content_is_text(cls, content: str) -> str:
        try:
            content.encode()
        except UnicodeEncodeError as error:
            raise ValueError("must be text in UTF-8") from error
        if "\0" in content:
            raise ValueError("must be text, without NUL characters")
        return content


def _kind_of_script(script: Any) -> str:
    return "script-file" if isinstance(script, Mapping | SourceFile) else "script-url"


Script = Annotated[
    Annotated[str, Field(max_length=2000), Tag("script-url")] | Annotated[SourceFile, Tag("script-file")],
    Discriminator(_kind_of_script),
]


class Artifact(Part):
    """A jar for the class path: where it is fetched from, and its SHA-256 where that is to be checked."""

    url: str = Field(max_length=2000)
    sha256: Digest | None = None

    @field_validator("url")
    @classmethod
    def _is_fetchable(cls, url: str) -> str:
        return checked_url(url, ".jar")


def checked_url(url: str, ending: str = "") -> str:
    """A URL that the fetcher takes: http(s) of a host, or local:// of the image. Raises ValueError."""
    parts = split_url(url)
    if parts is None or CONTROL.search(url) or " " in url:
        raise ValueError("must be a URL")
    if parts.scheme == "local":
        if parts.netloc or not re.fullmatch(r"(/[A-Za-z0-9_.+-]+)+", parts.path) or ".." in parts.path.split("/"):
            raise ValueError("must be local:///a/path/in/the/image")
    elif parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("must be an http or https URL, local:///a/path/in/the/image, or a file from your disk")
    if parts.username or parts.password or "@" in parts.netloc:
        raise ValueError("must carry no user name or password in its URL")
    if ending and not parts.path.endswith(ending):
        raise ValueError(f"must end with {ending}")
    return url


def is_open_to_others(url: str) -> bool:
    """Whether who stands between could put another file there: plain http to another machine. The fetcher in the pod
    says the same of where a redirect leads."""
    parts = split_url(url)
    if parts is None or parts.scheme != "http":
        return False
    try:
        return parts.hostname != "localhost" and not ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return True


def split_url(url: str) -> SplitResult | None:
    """The parts of a URL; None where it is none."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it raises where it is no number
        return parts
    except ValueError:
        return None


def normalized(body: Mapping[str, Any]) -> dict[str, Any]:
    """Other spellings of one thing: script_path, env SCRIPT_URL and --script-url are the script; JAR_FILES in env,
    and text with commas, are the jar_files."""
    fields = dict(body)
    given = fields.get("env")
    env: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    if fields.get("type", "PYTHON_SCRIPT") == "PYTHON_SCRIPT":
        url, fields["args"] = _without_script_url(fields.get("args", ()))
        named = {"script_path": fields.pop("script_path", None), "env.SCRIPT_URL": env.get("SCRIPT_URL"), "args": url}
        for spelling, script in named.items():
            if script is not None and fields.get("script") not in (None, script):
                raise ValueError(f"{spelling} and script name different scripts: give one of them")
            fields["script"] = script if script is not None else fields.get("script")
    if fields.get("jar_files") is None and env.get("JAR_FILES"):
        fields["jar_files"] = env["JAR_FILES"]
    if fields.get("jar_files") is not None:
        fields["jar_files"] = _jar_files(fields["jar_files"])
    return {key: value for key, value in fields.items() if not (value is None and key in ("script", "jar_files"))}


def _without_script_url(args: Any) -> tuple[Any, Any]:
    """`--script-url X` is ours where it stands before the first `--`; everything else is the script's own."""
    if not isinstance(args, list | tuple):
        return None, args
    ours = args[: args.index("--")] if "--" in args else args
    for place, argument in enumerate(ours):
        if argument == "--script-url" and place + 1 < len(ours):
            return ours[place + 1], [*args[:place], *args[place + 2 :]]
        if isinstance(argument, str) and argument.startswith("--script-url="):
            return argument.partition("=")[2], [*args[:place], *args[place + 1 :]]
    return None, args


def _jar_files(listed: Any) -> Any:
    if isinstance(listed, str):
        listed = [url.strip() for url in listed.split(",") if url.strip()]
    if not isinstance(listed, list | tuple):
        return listed
    return [{"url": each} if isinstance(each, str) else each for each in listed]
