"""What is taken for a secret: one list of names (secret_names), and one look at values. Pure; knows no field and no way
in.

Where a value can be sealed, doubt is enough (`may_be_secret`); where it can only be refused, the name must say it or
the value show it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from headrace.domain.flink_sql import ScriptError, Statement, Token, pieces, setting, tokens
from headrace.domain.secret_names import looks_secret, may_be_secret

_STEMS = (
    "pass",
    "pw",
    "secret",
    "token",
    "cred",
    "jaas",
    "auth",
    "bearer",
    "jwt",
    "cookie",
    "sig",
    "key",
    "sas",
    "webh",
)
"""One of these is in every name that looks secret: what has none need not be looked at closely."""


def _has_stem(text: str) -> bool:
    low = text.lower()
    return any(stem in low for stem in _STEMS)


_NONE = re.compile(r"(?:true|false|yes|no|none|null|[0-9]+(?:\.[0-9]+)? ?[a-z]{1,3})?", re.IGNORECASE)
_REFERENCE = re.compile(r"(?:\$\{[^{}$]*\}|\$\([A-Za-z_]\w*\))+")
_ADDRESS = re.compile(
    r"(?:jdbc:)?[a-z][a-z0-9+.-]{0,30}:(?:[a-z0-9+.-]{1,30}:)?//(?:[^@:/?;\s]{0,200}:?@)?[^@?;\s]*|[\w.-]{1,200}:[0-9]{1,5}",
    re.IGNORECASE,
)
"""An address that shows no password: names of addresses are in doubt for what they may carry alone."""

# Each repeat is bounded: a text of 900 kB takes time in proportion to its length.
_PLACEHOLDER = re.compile(r"\$?\$\{[^{}$]{0,200}\}|\$\([A-Za-z_]\w{0,200}\)|\{\w{0,100}\}")
_USER_INFO = re.compile(r"[a-z][a-z0-9+.-]{0,20}://[^\s/:@'\"]{0,200}:(?!%[a-z(])[^\s/@'\"<>*…]{1,500}@", re.IGNORECASE)
_USER_ALONE = re.compile(r"\bhttps?://(?!%[a-z(])[^\s/:@'\"<>*…]{1,500}@", re.IGNORECASE)
_ORACLE = re.compile(r"\bjdbc:oracle:\w{1,20}:[^\s/@'\"]{1,200}/[^\s/@'\"<>]{1,200}@", re.IGNORECASE)
_LOGIN = re.compile(r"(?:^|(?<=[\s'\"=]))(?!mailto:)[\w.+-]{1,200}:[^\s/:@'\"<>]{1,200}@(?!sha[0-9]{1,3}:)[\w.(\[-]")
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY")
_SCHEME = re.compile(
    r"(?:\bauthorization\b[\\\"']{0,3}\s{0,3}[:=]\s{0,3}[\\\"']{0,3}|^[ \t]{0,20}|[\"'])"
    r"(?:basic|bearer|token|negotiate)[ \t]{1,3}(?=[A-Za-z._~-]{0,200}[0-9+/=])[A-Za-z0-9._~+/=-]{6,}"
    r"|\bbearer[ \t]{1,3}(?=[a-z._~+/=-]{0,200}[0-9])[\w.~+/=-]{8,}",
    re.IGNORECASE | re.MULTILINE,
)
_ISSUED = re.compile(
    r"\b(?:gh[pousr]_[A-Za-z0-9]{10}|github_pat_\w{10}|glpat-[\w-]{10}|xox[abeprs]-[\w-]{10}|npm_[A-Za-z0-9]{20}|"
    r"(?:sk|rk)_live_\w{8}|sk-(?:ant-|proj-|live-)[\w-]{8}|(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{30}|hv[sb]\.[\w-]{20}|"
    r"dapi[0-9a-f]{32}|SG\.[\w-]{16,40}\.[\w-]{16}|eyJ[\w-]{8,500}\.eyJ[\w-]{4,2000}\.)|"
    r"\bhooks\.slack\.com/services/\w|\bdiscord(?:app)?\.com/api/webhooks/\w"
)
_ISSUED_HINTS = (
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "npm_", "_live_", "sk-", "akia", "asia"),
    *("aiza", "hvs.", "hvb.", "dapi", "sg.", "eyj", "hooks.slack.com", "discord"),
)
_VALUE = r"(?=([^\s\"'\\&;,(){}\[\]|]{1,200}))"
_QUERY = re.compile(r"[?&;]([\w.-]{1,80})=(?=([^\s&;'\"{}<>]{1,200}))")
_ASSIGNED = re.compile(
    r"(?<![\w.-])([\w.-]{1,100})[\\\"']{0,3}\s{0,3}(?:=\s{0,3}|:\s{0,3}(?=[\\\"'])|:(?=\S))[\\\"']{0,3}" + _VALUE
)
_LINE = re.compile(r"^[ \t]{0,40}(?:- )?([\w.-]{1,100}):[ \t]{1,10}(?=(\S{1,200}))", re.MULTILINE)
_STRING = re.compile(r"([\"'])((?:(?!\1)[^\\\n]|\\.){1,4000})\1")
_QUOTED = re.compile(r"(?<![\w.-])([\w.-]{1,100})[\\\"']{0,3}\s{0,3}[=:]\s{0,3}\\?[\"'](?=([^\"'\\{}<>$%*…\s]{3,200}))")

_SURE: tuple[tuple[re.Pattern[str], str, Sequence[str]], ...] = (
    (_USER_INFO, "a password in a URL", ("://",)),
    (_USER_ALONE, "a token in a URL", ("://",)),
    (_ORACLE, "a password in a URL", ("jdbc:oracle:",)),
    (_PEM, "a private key", ("private key",)),
    (_SCHEME, "the value of an Authorization header", ("authorization", "basic", "bearer", "negotiate", "token ")),
    (
        _ISSUED,
        "an issued token",
        _ISSUED_HINTS,
    ),
)
"""Shapes that are sure, what each is called, and what a text must have somewhere, in lower case, to be searched."""

_TYPES = re.compile(r"(?:string|str|text|varchar|char|int|integer|bigint|boolean|bytes|binary|any|none|null)", re.I)


def found_in(text: str) -> str | None:
    """What secret a text shows by its form, in words; None where it shows none. Placeholders are none."""
    text = _PLACEHOLDER.sub("", text)
    sure = _sure(text)
    if sure is not None or ("@" in text and _LOGIN.search(text)):
        return sure or "a user's password"
    return next((f"a value for {name[:40]}" for name, _ in _pairs(text, _ASSIGNED, _LINE, _QUERY)), None)


def found_in_program(text: str) -> str | None:
    """The same for the text of a program, whose own names are no values: only what it says word for word counts."""
    text = _PLACEHOLDER.sub("", text)
    said = next(_pairs(text, _QUOTED, _QUERY), None)
    if said is None and _has_stem(text):
        strings = (found[2] for found in _STRING.finditer(text) if _has_stem(found[2]))
        said = next((pair for string in strings for pair in _pairs(string, _ASSIGNED)), None)
    if said is None and "@" in text and any(_LOGIN.search(found[2]) for found in _STRING.finditer(text)):
        return "a user's password"
    return _sure(text) or (said and f"a value for {said[0][:40]}")


def _sure(text: str) -> str | None:
    low = text.lower()
    shapes = (each for each in _SURE if any(hint in low for hint in each[2]))
    return next((words for shape, words, _ in shapes if shape.search(text)), None)


def _pairs(text: str, *shapes: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Names that look secret, and what stands behind them."""
    if not _has_stem(text):
        return
    for found in (each for shape in shapes for each in shape.finditer(text)):
        name, value = found[1], found[2]
        is_one = _has_stem(name) and looks_secret(name) and not is_none(value)
        if is_one and not _TYPES.fullmatch(value) and value != name and not value.startswith("%"):
            yield name, value


def is_none(text: str) -> bool:
    """Whether a text can be no secret, whatever its name: empty, yes or no, a size or a time, a reference."""
    return bool(_NONE.fullmatch(text) or _REFERENCE.fullmatch(text))


def is_secret(name: str, text: str) -> bool:
    """Whether a value is to be kept from readers who can be kept from it: by doubt."""
    if is_none(text):
        return False
    by_doubt = may_be_secret(name) and not _ADDRESS.fullmatch(text)
    return looks_secret(name) or by_doubt or found_in(text) is not None


def why_refused(name: str, text: str) -> str | None:
    """Why a value may not stand where everybody can read it, in words; None where it may."""
    if is_none(text):
        return None
    if looks_secret(name):
        return "looks like a secret"
    found = found_in(text)
    return f"holds {found}" if found else None


def secret_in_sql(sql: str) -> str | None:
    """What secret SQL holds, in words: the value of an option, or a string that shows one; comments too are kept."""
    said = next(_said_in_sql(sql), None)
    if said is None and (found := found_in_program(sql)):
        said = f"holds {found}"
    return said


def _said_in_sql(sql: str) -> Iterator[str]:
    """Statement by statement, as far as it can be read: what is wrong behind that, the check of the script says."""
    with suppress(ScriptError):
        for statement in pieces(tokens(sql)):
            strings = (token for token in statement if token.kind in ("string", "prefixed"))
            yield from (f"holds {found} in a string" for token in strings if (found := found_in(token.value)))
            for name, value in _options(statement):
                if looks_secret(name) and not is_none(value):
                    yield f"has a value for the option {name[:60]}"


def _options(statement: Sequence[Token]) -> Iterator[tuple[str, str]]:
    """`'name' = 'value'`, as in WITH (…) and in hints, and what a SET sets."""
    for name, equals, value in zip(statement, statement[1:], statement[2:], strict=False):
        if name.kind == "string" and equals.text == "=":
            yield name.value, value.value
    if statement[0].text.upper() == "SET":
        with suppress(ScriptError):
            yield setting(Statement(1, tuple(statement)))


HARMLESS_FIELDS = frozenset(
    {"operation", "tenant", "job_id", "template_id", "template_version", "version", "type", "parallelism", "force"}
    | {"savepoint", "flink_version", "profile", "memory", "cpu", "slots", "replicas", "image_pull_policy", "effect"}
    | {"idempotency_key", "required", "sha256", "namespace", "host_path", "mount_path", "main_class", "deployment"}
)
"""Fields whose values refusals, dead letters, logs and Flower may repeat. Everything else may be what a user keeps to
himself."""

NAMED_BY_USERS = frozenset({"env", "args", "parameters", "labels", "annotations", "flink_configuration"})
"""Fields whose inner names are the users': one that is called like a harmless field is none."""

_SIMPLE = re.compile(r"[\w.:/ -]{0,200}")


def may_be_shown(field: str, value: Any) -> bool:
    """Whether a refusal or a letter may repeat the value of this field: a number, or a short plain text."""
    if field not in HARMLESS_FIELDS or isinstance(value, dict | list | tuple):
        return False
    text = str(value)
    return bool(_SIMPLE.fullmatch(text)) and found_in(text) is None


HIDDEN = "…"


def outlined_data(value: Any, field: str = "") -> Any:
    """What was sent, with each value that is not of a harmless field hidden; the names stay."""
    if isinstance(value, dict):
        inner = {shown_name(name): (name, each) for name, each in value.items()}
        mine = field in NAMED_BY_USERS
        return {
            shown: outlined_data(each, field if mine else str(name))
            if isinstance(each, dict | list)
            else each
            if not mine and may_be_shown(str(name), each)
            else HIDDEN
            for shown, (name, each) in inner.items()
        }
    if isinstance(value, list):
        return [outlined_data(each, field) if isinstance(each, dict | list) else HIDDEN for each in value]
    return HIDDEN


def shown_name(name: Any) -> str:
    """The name of a field as a refusal may have it."""
    text = str(name)
    return text if len(text) <= 200 and found_in(text) is None else HIDDEN
