"""A failure in words: its cause as a person would say it, and the next step. Pure; one table, first match wins.

The evidence is what each channel said: the operator's error, the pods, the JobManager's exceptions, a bounded tail of
its log. The words of a fetcher or of the user's own code are repeated; a stack trace is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from headrace.domain.deployments import PodTrouble

LONGEST_WORDS = 600
LONGEST_LOG = 64 * 1024
"""Characters of a log that are looked at and kept, its end."""


@dataclass(frozen=True)
class Evidence:
    """What is known of a failure, each channel as it was read; empty where it said nothing.

    `error` is the operator's, in words, root cause last; `exceptions` the stack traces of the JobManager's REST, newest
    first; `log` the end of the JobManager's log; `refused` what the Kubernetes API or the operator said no with.
    """

    error: str = ""
    trouble: PodTrouble | None = None
    exceptions: Sequence[str] = ()
    log: str = ""
    refused: str = ""

    def texts(self) -> Iterator[str]:
        """Each channel's words, the most telling first."""
        if self.refused:
            yield self.refused
        if self.trouble is not None:
            yield f"{self.trouble.reason} {self.trouble.message}"
        if self.error:
            yield self.error
        yield from self.exceptions
        if self.log:
            yield self.log[-LONGEST_LOG:]


@dataclass(frozen=True)
class Explanation:
    """Why something failed, and what to do next."""

    cause: str
    next_step: str

    def __str__(self) -> str:
        return f"{self.cause}; {self.next_step}" if self.next_step else self.cause


@dataclass(frozen=True)
class _Rule:
    """Where `pattern` is found, the cause is `words` (from the match), and `next_step` follows."""

    pattern: re.Pattern[str]
    words: Callable[[re.Match[str], Evidence], str]
    next_step: str


def explain(evidence: Evidence) -> Explanation | None:
    """The failure in words; None where nothing is known that says more than its raw text."""
    for rule in RULES:
        for text in evidence.texts():
            found = rule.pattern.search(text)
            if found is not None:
                return Explanation(_short(rule.words(found, evidence)), rule.next_step)
    return _from_user_code(evidence)


def _short(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= LONGEST_WORDS else f"{line[: LONGEST_WORDS - 1]}…"


def _whole(found: re.Match[str], _: Evidence) -> str:
    return found[0]


def _said(template: str) -> Callable[[re.Match[str], Evidence], str]:
    return lambda found, _: template.format(*(group or "" for group in found.groups()))


def _rule(
    pattern: str, next_step: str, words: Callable[[re.Match[str], Evidence], str] = _whole, flags: int = 0
) -> _Rule:
    return _Rule(re.compile(pattern, flags), words, next_step)


_ARTIFACT = r"(?:SCRIPT_URL|JAR_URL|JAR_FILES) [^\n]{1,400}?"
_STOP_THEN_SUBMIT = "then STOP the job and submit it again"

RULES: tuple[_Rule, ...] = (
    _rule(
        _ARTIFACT + r" answered (?:404|410)",
        f"the server has no such file: check the URL, {_STOP_THEN_SUBMIT}",
    ),
    _rule(
        _ARTIFACT + r" answered (?:401|403)",
        f"the server wants credentials or forbids it: let the pods read the file, {_STOP_THEN_SUBMIT}",
    ),
    _rule(
        _ARTIFACT + r" has sha256 [0-9a-f]{64}, not [0-9a-f]{64}",
        "the file is not the one whose hash was given: look at what changed, and submit it with the hash that it has",
    ),
    _rule(
        _ARTIFACT + r" is larger than the \d+ bytes allowed",
        "build it into the image and name it by local:///…, or raise HEADRACE_FLINK_MAX_ARTIFACT_BYTES",
    ),
    _rule(
        _ARTIFACT + r" refused: host [^\n]{1,200}? is not allowed[^\n]{0,200}",
        "add the host to HEADRACE_FLINK_ALLOWED_HOSTS if it may be fetched from",
    ),
    _rule(
        _ARTIFACT + r"(?: is not a jar[^\n]{0,100}| is not in the image)",
        f"name the jar itself, {_STOP_THEN_SUBMIT}",
    ),
    _rule(
        _ARTIFACT
        + r"(?: cannot be reached| did not answer in time| broke off| answered \d{3}| refused| cannot be stored"
        r"| did not arrive in time)[^\n]{0,200}",
        f"see that the pods can reach the server, {_STOP_THEN_SUBMIT}",
    ),
    _rule(
        r"(ErrImagePull|ImagePullBackOff|ErrImageNeverPull|InvalidImageName)\b([^\n]*)",
        "check image, and pod.image_pull_secrets where its registry needs a login",
        _said("the image cannot be pulled ({0}):{1}"),
    ),
    _rule(
        r"(?:failed to pull and unpack image|Failed to pull image|Container image) [^\n]+",
        "check image, and pod.image_pull_secrets where its registry needs a login",
    ),
    _rule(
        r"^Unschedulable ([^\n]+)",
        "ask for less in resources, change pod.node_selector or pod.tolerations, or add nodes: it starts by itself",
        _said("no node takes the pod: {0}"),
    ),
    _rule(
        r"exceeded quota: [^\n]+",
        "stop other jobs of the namespace, ask for less in resources, or have the ResourceQuota raised",
    ),
    _rule(
        r"(?:CreateContainerConfigError )?(?:\[[a-z-]+\] )?(?:secret|configmap) \"[^\"]+\" not found",
        "create it in the job's namespace, or correct its name in env or env_from; it starts by itself then",
    ),
    _rule(
        r"couldn't find key \S+ in (?:Secret|ConfigMap) \S+",
        "add the key, or correct it in env; it starts by itself then",
    ),
    _rule(
        r"[^\n]*is forbidden: User [^\n]+",
        "give Headrace's service account the right that is named, by a Role in that namespace; then submit again",
    ),
    _rule(
        r"[^\n]*no FlinkDeployment CRD[^\n]*",
        "install the Flink Kubernetes Operator (its Helm chart brings the CRDs); then submit again",
    ),
    _rule(
        r"OOMKilled",
        "raise resources.job_manager.memory or resources.task_manager.memory: the pod used more than it asked for",
        lambda _, evidence: _out_of_memory(evidence),
    ),
    _rule(
        r"java\.lang\.OutOfMemoryError: ([^\n]{1,200})",
        "raise resources.task_manager.memory (or job_manager.memory, where the JobManager said it)",
        _said("Flink ran out of memory: {0}"),
    ),
    _rule(
        r"Could not find a file system implementation for scheme '([^']+)'[^\n]*",
        "build the image with that filesystem's plugin (flink_app/Dockerfile: S3_PLUGIN=true), or choose another place",
        _said("the image has no plugin for {0}:// locations"),
    ),
    _rule(
        r"^statement \d+, line \d+: [^\n]+",
        "mend the statement, then STOP the job and submit it again",
        flags=re.MULTILINE,
    ),
    _rule(
        r"script \S+, line \d+: [^\n]+",
        "mend the script, then STOP the job and submit it again",
    ),
    _rule(
        r"(?:ModuleNotFoundError|ImportError): [^\n]+",
        "name the package in a requirements.txt beside the script, or build it into the image",
        lambda found, evidence: found[0] + _place(evidence),
    ),
    _rule(
        r"(?:Could not find the provided job class \(([^)]+)\)[^\n]*|ClassNotFoundException: (\S+))",
        "check main_class against the classes of the jar (jar tf), and the jars that it needs in jar_files",
        lambda found, _: f"the class {found[1] or found[2]} is not in the jar",
    ),
    _rule(
        r"[^\n]*(?:Neither a 'Main-Class', nor a 'program-class' entry|no main class|does not have a main method"
        r"|The program's entry point class)[^\n]*",
        "set main_class to the class that has the main method",
    ),
    _rule(
        r"(NoSuchFileException|FileNotFoundException): (\S+)",
        "check that the file is in the image, or travels with the job",
        _said("the file {1} is not there ({0})"),
    ),
    _rule(
        r"(?:Savepoint Error|Failed to trigger savepoint|Stop with savepoint operation)[^\n]*",
        "see that Flink's user (uid 9999) can write to the savepoint directory, then send STOP again (or with force)",
        lambda found, _: f"the savepoint could not be taken: {found[0]}",
    ),
)


def _out_of_memory(evidence: Evidence) -> str:
    pod = evidence.trouble.pod if evidence.trouble is not None else "a TaskManager's pod"
    return f"{pod} was killed for its use of memory (OOMKilled)"


# What the user's own code raised.

_TRACEBACK = re.compile(r"Traceback \(most recent call last\):")
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_RAISED = re.compile(
    r"(?:^|[ -])((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception|Exit|Interrupt|Warning)(?:: [^\n]+)?)$"
)
_NOT_THE_USERS = (
    "/site-packages/",
    "/dist-packages/",
    "/lib/python",
    "<frozen",
    "pyflink",
    "entrypoint.py",
    "<string>",
)
_EMBEDDED = re.compile(r"pemja\.core\.PythonException: <class '([^']+)'>(?:: ([^\n]*))?")
_EMBEDDED_FRAME = re.compile(r"^\s+at (\S+)\(([\w.-]+\.py):(\d+)\)", re.MULTILINE)
_CAUSED_BY = re.compile(r"^(?:Caused by: )?((?:[a-z]\w*\.)+[A-Z][\w$]*(?:Exception|Error)(?:: [^\n]*)?)$", re.MULTILINE)
_JAVA_FRAME = re.compile(r"^\s+at ([\w.$]+)\.[\w$<>]+\((\w+\.java):(\d+)\)", re.MULTILINE)
_NOT_THE_USERS_JAVA = ("org.apache.", "java.", "jdk.", "sun.", "scala.", "akka.", "pekko.", "com.sun.")
_USER_STEP = "mend it, STOP the job and submit it again (start_from: last keeps its state); see headrace exceptions"


def _from_user_code(evidence: Evidence) -> Explanation | None:
    for text in (*evidence.exceptions, evidence.log[-LONGEST_LOG:], evidence.error):
        words = _python_words(text) or _embedded_python_words(text) or _java_words(text)
        if words:
            return Explanation(_short(words), _USER_STEP)
    return None


def _place(evidence: Evidence) -> str:
    for text in (*evidence.exceptions, evidence.log[-LONGEST_LOG:]):
        place = _python_place(text)
        if place:
            return place
    return ""


def _python_words(text: str) -> str | None:
    """The last exception of the last Python traceback, with the user's own deepest line."""
    begins = [found.end() for found in _TRACEBACK.finditer(text)]
    if not begins:
        return None
    raised = (_RAISED.search(line.rstrip()) for line in text[begins[-1] :].splitlines() if not _FRAME.search(line))
    words = next((found[1] for found in raised if found is not None), None)
    return f"{words}{_python_place(text)}" if words else None


def _python_place(text: str) -> str:
    begins = [found.end() for found in _TRACEBACK.finditer(text)]
    frames = _FRAME.findall(text[begins[-1] :]) if begins else []
    own = [(file, line) for file, line in frames if not any(part in file for part in _NOT_THE_USERS)]
    return f" ({own[-1][0].rpartition('/')[2]}, line {own[-1][1]})" if own else ""


def _embedded_python_words(text: str) -> str | None:
    """What Python raised inside of a TaskManager's JVM (python.execution-mode: thread), the last time."""
    raised = list(_EMBEDDED.finditer(text))
    if not raised:
        return None
    words = f"{raised[-1][1]}: {raised[-1][2]}".rstrip(": ")
    frames = _EMBEDDED_FRAME.finditer(text[raised[-1].end() :])
    own = next((f for f in frames if not any(part in f[1] for part in _NOT_THE_USERS)), None)
    return f"{words} ({own[2]}, line {own[3]})" if own else words


def _java_words(text: str) -> str | None:
    """The root cause of a Java stack trace, with the first line of it that is the user's own."""
    causes = list(_CAUSED_BY.finditer(text))
    own = [c for c in causes if not c[1].startswith(("org.apache.flink.runtime.JobException", "java.util.concurrent."))]
    if not own:
        return None
    root = own[-1]
    frames = _JAVA_FRAME.finditer(text[root.end() :])
    user = next((f for f in frames if not f[1].startswith(_NOT_THE_USERS_JAVA)), None)
    return f"{root[1]} ({user[2]}, line {user[3]})" if user else root[1]
