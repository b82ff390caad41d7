"""Flink's SQL as text: its tokens, its statements, and what is refused of a script before anything runs.

The one tokenizer, by the rules of Flink 2.2's own parser: the runner in the image splits scripts by it, and Headrace
puts parameters in place by it (there `headrace/domain/flink_sql.py` is a link to this file, so that the wheel has it).
It must know neither: the standard library, and the module beside it that knows what secrets are called, are all that it
may import. What it says has not been run: it knows no tables, and no environment but the one that it is given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from itertools import dropwhile
from typing import NamedTuple

from .secret_names import looks_secret, may_be_secret

OUTPUT = "HEADRACE_OUTPUT"
RUNTIME_MODE = "execution.runtime-mode"
CLIENTS_OWN = "sql-client."
"""Options of Flink's SQL client: there is none here, they change nothing, and scripts that were its may keep them."""

SHOWN_CHARACTERS = 80
MOST_TOKENS = 250_000
"""Of a script: what a megabyte of SQL as people write it has, and what is read in a second or two."""

PLACEHOLDER = re.compile(r"\$?\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""`${name}`, and `$${name}`, which stands for the text `${name}` itself. Flink knows neither."""

FROM_ENVIRONMENT = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
"""`${env:NAME}`, the value of any variable where the script runs. No parameter has such a name."""

VARIABLE = re.compile(rf"\$\{{({OUTPUT})\}}|{FROM_ENVIRONMENT.pattern}")

LETTERS = (  # what its parser takes in an identifier that is not quoted, beside digits and `$`: tried on each character
    r"A-Z_a-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u1fff\u2d00-\u2d25\u3040-\u318f\u3300-\u337f\u3400-\u3d2d\u4e00-\u9fff"
    r"\uf900-\ufaff"
)
DOLLAR = r"\$(?!\$?\{)"

# `(?!')` keeps a string that has no end from ending at the first half of a doubled quote. A hint (`/*+ … */`) is no
# comment: its tokens are tokens. `/***/` is a comment that goes on: the fourth character is never a part of its end.
TOKEN = re.compile(
    rf"""
      (?P<comment>     (?:--|//)[^\n\r]* | /\*\*[^/].*?\*/ | /\*(?!\+|\*[^/]).*?\*/ )
    | (?P<space>       [ \t\n\r\f]+ )
    | (?P<string>      '[^']*(?:''[^']*)*'(?!') )
    | (?P<name>        `(?!`(?!`))[^`\n\r]*(?:``[^`\n\r]*)*`(?!`) )
    | (?P<prefixed>    [eE]'[^'\\]*(?:(?:\\.|'')[^'\\]*)*'(?!')
                     | (?:[nNxX]|[uU]&|_[A-Za-z0-9][A-Za-z0-9_]*)'[^']*(?:''[^']*)*'(?!')
                     | [uU]&"(?!"(?!"))[^"\n\r]*(?:""[^"\n\r]*)*"(?!") )
    | (?P<placeholder> {PLACEHOLDER.pattern} | {FROM_ENVIRONMENT.pattern} )
    | (?P<number>      (?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)? )
    | (?P<word>        (?:[{LETTERS}]|{DOLLAR})(?:[0-9{LETTERS}]+|{DOLLAR})* )
    | (?P<open>        '|`|/\*(?!\+) )
    | (?P<mark>        \*/ | /\*\+ | \.\. | \{{[ ]*(?:[tT][sS]|[fF][nN]|[dDtT]) | . )
    """,
    re.VERBOSE | re.DOTALL,
)
EMPTY_NAME = re.compile("``(?!`)")
OPENED = {"'": "the string", "`": "the quoted name", "/*": "the comment"}

# Words, dots, colons and dashes without a blank between them are one name of a collation to Flink where a `$` and a
# letter follow, and a character set where a string does: even `--` begins no comment there. `a$b` alone is a word.
RUN = re.compile(rf"[0-9{LETTERS}$:.-]+")
JOINT = re.compile(r"[:.-]")
COLLATION = re.compile(rf"\$[{LETTERS}$]")
CHARSET = re.compile(r"(?:^|[:.-])[0-9]*_[A-Za-z0-9][A-Za-z0-9_]*[:.-]")

LINE_END = re.compile(r"\r\n?|\n")
SHORTEST_BLOTTED = 4
"""Characters of what may be a secret by its name alone: less of it would blot out other words."""


class ScriptError(Exception):
    """Why the script does not run: one line for people, with the place in the script that it is about."""


@dataclass(frozen=True)
class SettingRules:
    """Which options a script may SET, as data: the image has them from Headrace, and has no list of its own.

    An entry is an option, or the beginning of options where it ends with `.`. `refused` has the reason of each;
    `allowed` are the others that may be set, none of them for all that is not refused.
    """

    refused: Mapping[str, str] = field(default_factory=dict)
    allowed: tuple[str, ...] = ()

    def problem_of(self, key: str) -> str | None:
        """Why this option may not be set; None where it may."""
        if key.startswith(CLIENTS_OWN):
            return None
        covering = (entry for entry in self.refused if covers(entry, key))
        refused = max(covering, key=len, default=None)
        if refused is not None:
            return self.refused[refused]
        if self.allowed and not any(covers(entry, key) for entry in self.allowed):
            families = sorted({entry.partition(".")[0] for entry in self.allowed})
            return f"it is none of the options that a job may set; those begin with {', '.join(families)}"
        return None

    def as_json(self) -> str:
        return json.dumps({"refused": dict(self.refused), "allowed": list(self.allowed)}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> SettingRules:
        """Raises ScriptError where it is none of as_json's."""
        try:
            said = json.loads(text)
            return cls({str(key): str(why) for key, why in said["refused"].items()}, tuple(map(str, said["allowed"])))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ScriptError(
                "the rules of what a script may SET cannot be read: Headrace and the image differ"
            ) from None


def covers(entry: str, key: str) -> bool:
    return key.startswith(entry) if entry.endswith(".") else key == entry


class Kind(Enum):
    """What a statement is to this program."""

    SET = "SET"
    RESET = "RESET"
    JOB = "starts a job"
    QUERY = "returns rows"
    CALL = "runs a procedure"
    END = "ends a session of the SQL client"
    CLIENT = "is another word to the SQL client"
    OTHER = "anything else"


class Token(NamedTuple):
    """A piece of a statement that means something; `before` is the blanks and comments that lead to it, `filled` the
    values that came into it from the environment and may be secrets."""

    kind: str
    text: str
    line: int
    column: int
    before: str
    filled: frozenset[str] = frozenset()

    @property
    def value(self) -> str:
        """What a string or a quoted name says; of one with a prefix, such as `E'…'`, with its escapes as written."""
        if self.kind not in ("string", "name", "prefixed"):
            return self.text
        quote = self.text[-1]
        return self.text[self.text.index(quote) + 1 : -1].replace(quote * 2, quote)

    @property
    def shown(self) -> str:
        return "'…'" if self.kind in ("string", "prefixed") else self.text


@dataclass(frozen=True)
class Statement:
    """One statement. A statement set is one, with `inserts` inside: they bear its number, and lines of their own."""

    number: int
    tokens: tuple[Token, ...]
    inserts: tuple[Statement, ...] = ()

    @property
    def line(self) -> int:
        return self.tokens[0].line

    @property
    def place(self) -> str:
        return f"statement {self.number}, line {self.line}"

    @cached_property
    def words(self) -> list[str]:
        """As keywords are compared."""
        return words(self.tokens)

    @cached_property
    def kind(self) -> Kind:
        return kind_of(self.words)

    @property
    def is_statement_set(self) -> bool:
        """Whether it runs as one; an EXPLAIN of a statement set does not."""
        return self.words[1:3] == ["STATEMENT", "SET"] and self.words[0] in ("BEGIN", "EXECUTE")

    def sql(self) -> str:
        """What Flink gets. It stands where it stands in the script, so that Flink's lines are the script's."""
        first, *rest = self.tokens
        padding = "\n" * (first.line - 1) + " " * first.column
        return padding + first.text + "".join(token.before + token.text for token in rest)

    def shown(self) -> str:
        """Its beginning as it may be printed: without comments and strings, either of which may hold a secret."""
        if self.kind is Kind.SET:  # its value need not be quoted
            return f"SET {setting(self)[0]} = …"
        text = "".join((" " if token.before else "") + token.shown for token in self.tokens).strip()
        return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"

    def secrets(self) -> set[str]:
        """The values of options that look secret, `'password' = 'these'`, and what came from the environment."""
        triples = zip(self.tokens, self.tokens[1:], self.tokens[2:], strict=False)
        options = [(key.value, value.value) for key, equals, value in triples if equals.text == "="]
        if self.kind is Kind.SET:
            options.append(setting(self))
        named = {value for key, value in options if value and is_blotted(key, value)}
        return named.union(*(token.filled for token in self.tokens))


def is_blotted(name: str, value: str) -> bool:
    """Whether what is printed does without this value: by doubt."""
    return looks_secret(name) or (len(value) >= SHORTEST_BLOTTED and may_be_secret(name))


SEMICOLON = Token("mark", ";", 0, 0, "")


def words(tokens: Iterable[Token]) -> list[str]:
    return [token.text.upper() for token in tokens]


def scan(script: str) -> Iterator[re.Match[str]]:
    """Every piece of the text in order, blanks and comments too; its kind is its `lastgroup`. Nothing is left out.

    Raises ScriptError where a piece has no end, or would be read otherwise by Flink.
    """
    looked_at = 0
    for found in TOKEN.finditer(script):
        if found.lastgroup == "open":
            text, place = found.group(), f"line {line_of(script, found.start())}"
            if EMPTY_NAME.match(script, found.start()):
                raise ScriptError(f"{place}: the quoted name that begins here is empty")
            goes_on = ": in /***/ it goes on, to Flink" if script.startswith("/***/", found.start()) else ""
            raise ScriptError(f"{place}: {OPENED[text]} that begins here has no end{goes_on}")
        if found.lastgroup in ("word", "number") and found.start() >= looked_at:
            looked_at = checked_run(script, found.start())
        yield found


def checked_run(script: str, start: int) -> int:
    """Where the signs end that Flink may read as one name with the word that starts here. Raises ScriptError where it
    does: to everybody else they are several, or a comment."""
    run = RUN.match(script, start)
    end = run.end() if run else start
    joint = JOINT.search(script, start, end)
    joined = start + 1 if script[start] in "0123456789" else joint.end() if joint else end
    is_charset = joint is not None and script[end : end + 1] == "'" and CHARSET.search(script[start:end])
    if is_charset or COLLATION.search(script, joined, end):
        raise ScriptError(
            f"line {line_of(script, start)}: words that '.', ':', '-' or a digit before them joins are one name of a "
            "collation to Flink, where a $ or a string follows: put blanks between them, or the name into `…`"
        )
    return end


def line_of(script: str, place: int) -> int:
    return len(LINE_END.findall(script, 0, place)) + 1


def tokens(script: str, environment: Mapping[str, str] | None = None) -> Iterator[Token]:
    """What the script consists of, with the values of variables in its strings. Without an environment they stay as
    they are written."""
    before, line, line_start, count = "", 1, 0, 0
    for found in scan(script):
        kind, text = str(found.lastgroup), found.group()
        if kind in ("comment", "space"):
            before += text
        else:
            token = Token(kind, text, line, found.start() - line_start, before)
            yield filled_in(token, environment) if "${" in text and VARIABLE.search(text) else token
            before, count = "", count + 1
            if count > MOST_TOKENS:
                raise ScriptError(
                    f"line {line}: the script goes on behind {MOST_TOKENS} words and signs: make it shorter"
                )
        ends = LINE_END.findall(text) if "\n" in text or "\r" in text else ()
        if ends:
            line += len(ends)
            line_start = found.start() + max(text.rfind("\n"), text.rfind("\r")) + 1


def filled_in(token: Token, environment: Mapping[str, str] | None) -> Token:
    """A string with the values of its variables, whose quotes cannot end it. A name keeps a variable as it is."""
    found = list(VARIABLE.finditer(token.text))
    if token.kind == "name":
        return token
    if token.kind != "string":
        raise ScriptError(f"line {token.line}: {found[0][0]} stands in a plain string alone: '{found[0][0]}'")
    if environment is None:
        return token
    values = {variable[0]: value_of(variable, environment, token.line) for variable in found}
    text = VARIABLE.sub(lambda variable: values[variable[0]].replace("'", "''"), token.text)
    secret = frozenset(values[variable[0]] for variable in found if variable[2] and values[variable[0]])
    return token._replace(text=text, filled=secret)


def value_of(variable: re.Match[str], environment: Mapping[str, str], line: int) -> str:
    """An output folder has a name; any other variable may be empty."""
    name = variable[1] or variable[2]
    if name not in environment or (variable[1] and not environment[name]):
        raise ScriptError(f"line {line}: {variable[0]} has no value: set {name} in the job's environment")
    return environment[name]


def pieces(script: Iterable[Token]) -> Iterator[list[Token]]:
    """What stands between the `;`, without those that are empty."""
    piece: list[Token] = []
    for token in script:
        if token.text != ";":
            piece.append(token)
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece


def statements(script: str, environment: Mapping[str, str] | None = None) -> list[Statement]:
    """The script's statements in their order, as `tokens` has them; raises ScriptError where it cannot be told where
    one ends."""
    found: list[Statement] = []
    waiting = pieces(tokens(script, environment))
    for piece in waiting:
        number, inside = len(found) + 1, inside_of_set(words(piece))
        if inside is None:
            found.append(Statement(number, tuple(piece)))
        else:
            found.append(statement_set(number, piece, inside, waiting))
    return found


def inside_of_set(piece: list[str]) -> int | None:
    """Where the first INSERT of a statement set may begin, if the piece opens one."""
    if piece == ["BEGIN", "STATEMENT", "SET"]:
        return len(piece)
    return next((i for i in range(3, len(piece) + 1) if piece[i - 3 : i] == ["STATEMENT", "SET", "BEGIN"]), None)


def statement_set(number: int, opening: list[Token], inside: int, following: Iterator[list[Token]]) -> Statement:
    """The set that `opening` opens, with what follows it up to its END."""
    whole, inserts = list(opening), [opening[inside:]] if opening[inside:] else []
    for piece in following:
        whole += [SEMICOLON, *piece]
        if words(piece) == ["END"]:
            return Statement(number, tuple(whole), tuple(Statement(number, tuple(insert)) for insert in inserts))
        inserts.append(piece)
    raise ScriptError(f"statement {number}, line {opening[0].line}: the statement set that begins here has no END;")


def kind_of(said: list[str]) -> Kind:
    """By its first words, as Flink's grammar has them."""
    first = said[1] if said[0] == "EXECUTE" and len(said) > 1 else said[0]
    if first in ("SET", "RESET"):
        return Kind(first)
    if first in ("SELECT", "WITH", "VALUES", "TABLE", "("):
        return Kind.QUERY
    if first in ("CALL", "QUIT", "EXIT", "CLEAR", "HELP"):
        return {"CALL": Kind.CALL, "QUIT": Kind.END, "EXIT": Kind.END}.get(first, Kind.CLIENT)
    is_job = first in ("INSERT", "UPDATE", "DELETE", "ANALYZE", "STATEMENT", "PLAN")
    is_job |= said[:3] in (["BEGIN", "STATEMENT", "SET"], ["COMPILE", "AND", "EXECUTE"])
    return Kind.JOB if is_job or creates_and_fills(said) else Kind.OTHER


def creates_and_fills(said: list[str]) -> bool:
    """Whether it is a CREATE TABLE … AS SELECT, or a REPLACE: the AS of a computed column stands in parentheses."""
    what = next(dropwhile(lambda word: word in ("CREATE", "OR", "REPLACE", "TEMPORARY"), said), "")
    return said[0] in ("CREATE", "REPLACE") and what == "TABLE" and "AS" in outside_of_parentheses(said)


def outside_of_parentheses(said: Iterable[str]) -> Iterator[str]:
    depth = 0
    for word in said:
        depth += (word == "(") - (word == ")")
        if depth == 0:
            yield word


def setting(statement: Statement) -> tuple[str, str]:
    """The key and the value of `SET 'key' = 'value'`; neither need be quoted, and no key comes from the environment."""
    said = statement.tokens[1:]
    equals = words(said).index("=") if "=" in words(said) else 0
    key, value = said[:equals], said[equals + 1 :]
    is_odd = any(token.kind == "prefixed" for token in said) or any(token.filled for token in key)
    if not key or not value or is_odd:
        raise ScriptError(f"{statement.place}: a SET reads SET 'key' = 'value'")
    return joined(key), joined(value)


def key_to_reset(statement: Statement) -> str:
    """The key of `RESET 'key'`."""
    if len(statement.tokens) == 1:
        raise ScriptError(f"{statement.place}: a RESET reads RESET 'key'")
    return joined(statement.tokens[1:])


def joined(said: Sequence[Token]) -> str:
    return said[0].value + "".join(token.before + token.value for token in said[1:])


def runtime_mode(script: Sequence[Statement]) -> str | None:
    """`batch` or `streaming`, if the script says so. Flink takes it when the environment is made, and never later."""
    is_early, mode = True, None
    for statement in script:
        is_early &= statement.kind in (Kind.SET, Kind.RESET)
        if statement.kind is Kind.SET and setting(statement)[0] == RUNTIME_MODE:
            mode = setting(statement)[1].lower()
            check_runtime_mode(statement, mode, is_early)
    return mode


def check_runtime_mode(statement: Statement, mode: str, is_early: bool) -> None:
    if not is_early:
        raise ScriptError(f"{statement.place}: '{RUNTIME_MODE}' must be SET before any other statement")
    if mode not in ("batch", "streaming"):
        raise ScriptError(f"{statement.place}: '{RUNTIME_MODE}' is 'streaming' or 'batch', got '{mode}'")


def check(script: Sequence[Statement], rules: SettingRules | None = None) -> None:
    """Raises ScriptError for what can be told before anything runs; `rules` are those of what it may SET."""
    if not script:
        raise ScriptError("the script holds no statement")
    for statement in script:
        check_one(statement)
    if rules is not None:
        check_settings(script, rules)
    runtime_mode(script)
    check_end(script)
    check_jobs(script)


def settings(script: Iterable[Statement]) -> Iterator[tuple[Statement, str, str]]:
    """What the script SETs: the statement, the option and its value. The SQL client's own options are left out."""
    for statement in script:
        if statement.kind is Kind.SET:
            key, value = setting(statement)
            if not key.startswith(CLIENTS_OWN):
                yield statement, key, value


def check_settings(script: Iterable[Statement], rules: SettingRules) -> None:
    for statement, key, _ in settings(script):
        problem = rules.problem_of(key)
        if problem:
            raise ScriptError(f"{statement.place}: '{key}' may not be SET: {problem}")


def check_end(script: Sequence[Statement]) -> None:
    """A script that ends as a session of the SQL client does is taken, and that statement does nothing."""
    for statement, following in zip(script, [*script[1:], None], strict=True):
        if statement.kind is Kind.END and following is not None:
            raise ScriptError(f"{following.place}: nothing runs behind {statement.words[0]}: take one of the two out")


def check_jobs(script: Sequence[Statement]) -> None:
    jobs = [statement for statement in script if statement.kind is Kind.JOB]
    call = next((statement for statement in script if statement.kind is Kind.CALL), None)
    if not jobs and call is not None:
        raise ScriptError(
            f"{call.place}: a CALL runs a procedure, and no other statement starts a job: run it by the SQL client of "
            "a session cluster, or by a JAR job, where its connector has a jar for that"
        )
    if not jobs:
        raise ScriptError("the script starts no job: it has no INSERT and no statement set")
    if len(jobs) > 1:
        raise ScriptError(
            f"{jobs[0].place} and {jobs[1].place} start a job each, and a script may start one: "
            "put the INSERTs between EXECUTE STATEMENT SET BEGIN and END;"
        )


def check_one(statement: Statement) -> None:
    if statement.kind is Kind.QUERY:
        raise ScriptError(f"{statement.place}: nobody would see the rows of a query: write INSERT INTO a table")
    if statement.kind is Kind.CLIENT:
        raise ScriptError(f"{statement.place}: {statement.words[0]} is for the SQL client's screen: take it out")
    unfilled = next((token for token in statement.tokens if token.kind == "placeholder"), None)
    if unfilled is not None:
        raise ScriptError(f"line {unfilled.line}: nothing fills in {unfilled.text}: a template's parameters do")
    if statement.kind is Kind.SET:
        setting(statement)
    if statement.kind is Kind.RESET:
        key_to_reset(statement)
    if statement.is_statement_set:
        check_inserts(statement)


def check_inserts(statement: Statement) -> None:
    if not statement.inserts:
        raise ScriptError(f"{statement.place}: the statement set is empty")
    for insert in statement.inserts:
        if insert.words[0] != "INSERT":
            raise ScriptError(f"{insert.place}: only INSERTs may stand in a statement set")
