"""What is taken for a secret: one list of names, and one look at values. Pure; knows no field and no way in.

Where a value can be sealed, doubt is enough (`may_be_secret`); where it can only be refused, the name must say it or
the value show it. flink_app/sql_runner.py, which may import nothing of ours, has the same list: a test holds that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from headrace.domain.said import NotSecret

NAMES_OF_SECRETS = (
    r"\b(?:[a-z]*passw(?:or)?ds?|[a-z]*passphrases?|passcodes?|(?:db|pg|my|mysql|user)pass|pass(?= ?[0-9]*$)|[a-z]*pwd|"
    r"pw|[a-z]{2,5}pw|[a-z]*secrets?|(?:access|api|auth|bearer|bot|id|refresh|session)?tokens?|credentials?|creds?|jaas|"
    r"authorization|bearer|jwt|cookies?|signature|sig|"
    r"(?:access|account|admin|api|auth|client|decryption|deploy|encryption|function|license|master|private|registry|"
    r"secret|service|session|shared|signing|ssh|storage|subscription|webhook) ?keys?)\b"
    r"|\b(?:webhook|sas) ur[il]$"
)
"""In a name in lower case, its words apart (`words_of`)."""

DOUBTFUL_NAMES = (
    r"(?<!primary )(?<!partition )(?<!partitioning )(?<!routing )(?<!public )(?<!sort )(?<!group )(?<!hash )"
    r"(?<!foreign )(?<!row )(?<!message )(?<!join )(?<!cache )(?<!record )(?<!event )\bkeys?$|\bhmac$|\bsas$|\bauth$|"
    r"\bdsn$|\bjdbc(?: ur[il])?$|\b(?:connection|conn) (?:str|string|ur[il])$|\bsalt$|\bpin$|\botp$|\bpem$|\bheaders?$|"
    r"\b(?:database|db|redis|mongo|mongodb|postgres|postgresql|mysql|amqp|rabbitmq|broker|sentry|webhook) ?ur[il]$"
)
"""Names of what may well hold one: keys of all sorts, and addresses that may carry a password."""

HARMLESS_ENDS = (
    r"\b(?:algorithms?|arns?|audience|backoff|budget|bucket|class|classes|class name|column|counts?|days|dir|directory|"
    r"disabled?|duration|enabled?|encoding|endpoint|expiration|expires|expiry|factory|fields?|files?|format|host|hours|"
    r"index|interval|issuer|len|length|lifetime|limits?|location|manager|max|method|millis|min|minutes|mode|ms|names?|"
    r"optional|parallelism|paths?|per [a-z]+|period|policy|port|position|prefix|providers?|ratio|refs?|reference|"
    r"renewal|required|rotation|scheme|scopes?|seconds|secs|size|strategy|suffix|threshold|timeout|ttl|types?|ur[il]s?|"
    r"validity|version|window)(?: [0-9]+)?$"
)
"""What a name is about where it ends so: the file, the size or the provider of a secret, and not the secret."""

NO_SECRETS = (
    r"\b(?:avg|average|bos|cls|completion|context|continuation|end|eos|input|mask|max|min|n|new|next|num|number of|"
    r"output|pad|page|prompt|sep|special|start|stop|total|unk) tokens?\b|\b(?:kubernetes|pull) secrets?$"
)
"""Phrases that speak of other tokens and secrets: a language model's, a page's, Kubernetes' own by their names."""

ADDRESSES_OF_HOOKS = r"\b(?:webhook|sas) ur[il]$"
"""Addresses that are secrets themselves."""

_NAMED = re.compile(NAMES_OF_SECRETS)
_DOUBTFUL = re.compile(DOUBTFUL_NAMES)
_END = re.compile(HARMLESS_ENDS)
_OTHERS = re.compile(NO_SECRETS)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[a-z]+|[0-9]+")

LONGEST_NAME = 300
"""Characters of a name that are looked at, from its end."""

_ALWAYS = re.compile(ADDRESSES_OF_HOOKS)


def words_of(name: str) -> str:
    """The words of a name, in lower case with blanks between: db.userPassword-2 is `db user password 2`."""
    return " ".join(_WORD.findall(_HUMP.sub(" ", name[-LONGEST_NAME:]).lower()))


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


def looks_secret(name: str) -> bool:
    """Whether something of this name holds a secret, as far as a name can say."""
    words = _OTHERS.sub("", words_of(name))
    return bool(_ALWAYS.search(words) or (_NAMED.search(words) and not _END.search(words)))


def may_be_secret(name: str) -> bool:
    """Whether something of this name holds a secret, or may well."""
    return looks_secret(name) or bool(_DOUBTFUL.search(words_of(name)))


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


def secret_argument(args: Sequence[str]) -> tuple[int, str] | None:
    """The place of the first argument that is a secret, and why: `--password X`, `db.token=X`, a URL with a password.
    What its user says is none (NotSecret) is none."""
    for place, argument in enumerate(args):
        if isinstance(argument, NotSecret):
            continue
        if _is_named_secret(argument) or (place and _follows_its_name(args[place - 1], argument)):
            return place, "looks like a secret"
        found = found_in(argument)
        if found:
            return place, f"holds {found}"
    return None


def _is_named_secret(argument: str) -> bool:
    name, separator, value = argument.partition("=")
    return bool(separator) and " " not in name and looks_secret(name) and not is_none(value)


def _follows_its_name(before: str, argument: str) -> bool:
    is_option = before.startswith("-") and "=" not in before and looks_secret(before)
    return is_option and not argument.startswith("-") and not is_none(argument)


_SQL = re.compile(
    r"(?P<skipped>(?:--|//)[^\n\r]*|/\*(?!\+).*?\*/|\s+)|(?P<string>'[^']*(?:''[^']*)*')|(?P<name>`[^`]*`)|"
    r"(?P<word>[\w.-]+)|(?P<mark>.)",
    re.DOTALL,
)


def secret_in_sql(sql: str) -> str | None:
    """What secret SQL holds, in words: the value of an option, or a string that shows one; comments too are kept."""
    tokens = [(found.lastgroup, found[0]) for found in _SQL.finditer(sql) if found.lastgroup != "skipped"]
    texts = [text[1:-1].replace("''", "'") if kind == "string" else text for kind, text in tokens]
    for place, (kind, text) in enumerate(tokens):
        value = texts[place]
        if kind != "string" and text != "=":
            continue
        if kind == "string" and (found := found_in(value)):
            return f"holds {found} in a string"
        is_option = text == "=" and 0 < place < len(tokens) - 1 and tokens[place + 1][0] in ("string", "word")
        if is_option and (tokens[place - 1][0] == "string" or texts[max(place - 2, 0)].upper() == "SET"):
            name, value = texts[place - 1], texts[place + 1]
            if looks_secret(name) and not is_none(value):
                return f"has a value for the option {name[:60]}"
    found = found_in_program(sql)
    return f"holds {found}" if found else None


HARMLESS_FIELDS = frozenset(
    {"operation", "tenant", "job_id", "template_id", "template_version", "version", "type", "parallelism", "force"}
    | {"savepoint", "flink_version", "profile", "memory", "cpu", "slots", "replicas", "image_pull_policy", "effect"}
    | {"idempotency_key", "required", "sha256", "namespace", "host_path", "mount_path", "main_class"}
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
