"""A failure in words: its cause as a person would say it, and the next step. Pure; one table, first match wins.

The evidence is what each channel said: the operator's error, the pods, the JobManager's exceptions, a bounded tail of
its log. The words of a fetcher or of the user's own code are repeated; a stack trace is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headrace.domain.deployments import PodTrouble
from headrace.domain.makers import Maker, maker_of
from headrace.domain.pods import JOB_MANAGER, KILLED_FOR_MEMORY, TASK_MANAGER

LONGEST_WORDS = 600
LONGEST_LOG = 64 * 1024
"""Characters of a log that are looked at and kept, its end."""


@dataclass(frozen=True)
class Evidence:
    """What is known of a failure, each channel as it was read; empty where it said nothing.

    `deployment` is whose failure it is: what Flink makes for it itself is told by its name. `refused` is what the
    Kubernetes API or the operator said no with; `trouble` what keeps a pod from running;
    `exceptions` the stack traces of the JobManager's REST that belong to this failure, newest first; `error` the
    operator's, in words, root cause last; `log` the end of the log of a JobManager that failed, and of no other.
    """

    deployment: str = ""
    refused: str = ""
    trouble: PodTrouble | None = None
    exceptions: Sequence[str] = ()
    error: str = ""
    log: str = ""


@dataclass(frozen=True)
class Explanation:
    """Why something failed, and what to do next."""

    cause: str
    next_step: str

    def __str__(self) -> str:
        return f"{self.cause.rstrip('.')}; {self.next_step}" if self.next_step else self.cause


@dataclass(frozen=True)
class _Rule:
    """Where `pattern` is found, the cause is `words` (from the match), and `next_step` follows.

    `in_log`: also in a log. Only what a program of ours or Flink's own end says is looked for there: whatever the
    user's code prints stands in it too.
    """

    pattern: re.Pattern[str]
    words: Callable[[re.Match[str]], str]
    next_step: str
    in_log: bool = False


NO_CRD = Explanation(
    "this cluster has no FlinkDeployment CRD",
    "install the Flink Kubernetes Operator (its Helm chart brings the CRDs); then submit again",
)


def explain(evidence: Evidence) -> Explanation | None:
    """The failure in words; None where nothing is known that says more than its raw text.

    The channels that say most about the present come first, and of each only what it says about this failure: the
    newest exception, the last thing in a log.
    """
    said = [evidence.refused, *evidence.exceptions[:1], evidence.error]
    told = (_of_text(text, evidence.deployment) for text in said if text)
    of_trouble = _of_trouble(evidence.trouble, evidence.deployment) if evidence.trouble is not None else None
    found = of_trouble or next((found for found in told if found is not None), None) or _of_log(evidence.log)
    return found or next((_python_ended(text) for text in said if _PYTHON_ENDED in text), None)


def _python_ended(text: str) -> Explanation:
    """All that Flink itself knows of a Python program: what it printed stands in the log, which could not be read."""
    code = text.partition(_PYTHON_ENDED)[2].strip(": ").partition("\n")[0]
    return Explanation(_short(f"the Python program ended with exit code {code}"), _LOOK)


def _of_trouble(trouble: PodTrouble, deployment: str) -> Explanation | None:
    if trouble.reason == KILLED_FOR_MEMORY:
        return Explanation(
            f"{trouble.component} pod {trouble.pod} was killed for its use of memory (OOMKilled)".strip(),
            f"raise {_MEMORY_OF.get(trouble.component, _ANY_MEMORY)}, {_STOP_THEN_SUBMIT}",
        )
    words = f"{trouble.reason} {trouble.message}"
    return _of_missing(words, deployment) or _by_rule(words)


def _of_text(text: str, deployment: str) -> Explanation | None:
    return _of_missing(text, deployment) or _by_rule(text) or _from_python(text) or _from_java(text)


_MISSING = re.compile(
    r"(?<![\w.])(secret|configmap|service|deployment|persistentvolumeclaim|namespace)s?(?:\.apps)? "
    r"\"([^\"\n]{1,253})\" not found"
)


def _of_missing(text: str, deployment: str) -> Explanation | None:
    """An object that is not there: who makes it decides what there is to do."""
    found = _MISSING.search(text)
    if found is None:
        return None
    kind, name = found[1], found[2]
    maker = maker_of(kind, name, deployment)
    if maker is Maker.USER:
        return Explanation(found[0], _TO_MAKE[kind])
    return Explanation(f"waiting for {kind} {name!r}, which {maker} makes itself", _IF_IT_LASTS[maker])


def _by_rule(text: str) -> Explanation | None:
    for rule in RULES:
        found = rule.pattern.search(text)
        if found is not None:
            return _explained(rule, found)
    return None


def _of_log(log: str) -> Explanation | None:
    """What comes last in it counts: what stands before it was survived."""
    text = _OF_REST.sub("", f"{log[-LONGEST_LOG:]}\n")
    ends = [(found, rule) for rule in RULES if rule.in_log and (found := _last(rule.pattern, text)) is not None]
    traceback = _last(_TRACEBACK, text)
    latest = max(ends, key=lambda end: end[0].start(), default=None)
    if latest is not None and (traceback is None or latest[0].start() > traceback.start()):
        return _explained(latest[1], latest[0])
    return _from_python(text) or _from_java(text)


_OF_REST = re.compile(
    r"^\d{4}-\d\d-\d\d [^ \n]+ [A-Z]+ +org\.apache\.flink\.runtime\.rest\.handler\.[^\n]*\n"
    r"(?:(?!\d{4}-\d\d-\d\d )[^\n]*\n)*",
    re.MULTILINE,
)
"""What a JobManager says of requests to it, and not of its job: each look at one whose program failed before it had a
graph leaves a NullPointerException there (Flink 2.x)."""


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for found in pattern.finditer(text):  # noqa: B007 - the last one is wanted
        pass
    return found


_FAILED = re.compile(r"(?:switched from [A-Z]+ to FAILED\b|Trying to recover from a global failure)[^\n]*\n")
_LOGGED = re.compile(r"^\d{4}-\d\d-\d\d ", re.MULTILINE)


def failure_in(log: str) -> str:
    """The stack trace of the last failure that a JobManager's log tells of; empty where it tells of none.

    The history of its REST has a failure only once Flink has waited for its next try.
    """
    told = _last(_FAILED, log)
    after = log[told.end() :] if told is not None else ""
    next_line = _LOGGED.search(after)
    return after[: next_line.start()] if next_line is not None else after


def _explained(rule: _Rule, found: re.Match[str]) -> Explanation:
    return Explanation(_short(rule.words(found)), rule.next_step)


def _short(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= LONGEST_WORDS else f"{line[: LONGEST_WORDS - 1]}…"


def _whole(found: re.Match[str]) -> str:
    return found[0]


def _line(found: re.Match[str]) -> str:
    """The line that it stands in, without what a logger put before it."""
    text = found.string
    begin, end = text.rfind("\n", 0, found.start()) + 1, text.find("\n", found.end())
    line = text[begin : end if end >= 0 else len(text)]
    return line.rpartition(" [] - ")[2]


def _said(template: str) -> Callable[[re.Match[str]], str]:
    return lambda found: template.format(*(group or "" for group in found.groups()))


def _rule(
    pattern: str,
    next_step: str,
    words: Callable[[re.Match[str]], str] = _whole,
    *,
    in_log: bool = False,
) -> _Rule:
    return _Rule(re.compile(pattern, re.MULTILINE), words, next_step, in_log)


_MEMORY_OF = {JOB_MANAGER: "resources.job_manager.memory", TASK_MANAGER: "resources.task_manager.memory"}
_ANY_MEMORY = " or ".join(_MEMORY_OF.values())
_ARTIFACT = r"(?:SCRIPT_URL|JAR_URL|JAR_FILES) [^\n]{1,400}?"
_OURS = r"(?:^|\] |CrashLoop - )"
"""Before what a program of ours says: nothing in a log, the container's name in a pod's state or the operator's error.
"""
_STOP_THEN_SUBMIT = "then STOP the job and submit it again"
_LOOK = "`headrace logs` and `headrace exceptions` have the whole of it"
_USER_STEP = f"mend it, {_STOP_THEN_SUBMIT} (start_from: last, where it has state); {_LOOK}"
_TO_MAKE = {
    **dict.fromkeys(
        ("secret", "configmap"),
        "create it in the job's namespace, and it starts by itself; or correct its name in env, env_from or "
        f"pod.volumes, {_STOP_THEN_SUBMIT}",
    ),
    "persistentvolumeclaim": "create it in the job's namespace, and it starts by itself; or correct its name in state "
    f"or pod.volumes (HEADRACE_FLINK_STATE_VOLUME for all jobs), {_STOP_THEN_SUBMIT}",
    "namespace": "create it, or set HEADRACE_NAMESPACE to one that is there",
    **dict.fromkeys(("service", "deployment"), "`headrace events` says what became of it"),
}
_IF_IT_LASTS = {
    Maker.FLINK: "it comes by itself; where it does not, see that the Flink Kubernetes Operator runs and may make it "
    f"(its log says so), {_STOP_THEN_SUBMIT}",
    Maker.HEADRACE: "it comes by itself; where it does not, see that a worker of Headrace runs",
}
_PROCESS_STEP = (
    "leave python.execution-mode out of flink_configuration, or set it to process: Python then runs beside the JVM; "
    f"{_STOP_THEN_SUBMIT}"
)
_LOADED_STEP = (
    "where it ran, STOP the job and submit it again as it is with start_from: last: new TaskManagers load Python anew; "
    "where it never did, leave python.execution-mode out of flink_configuration. Process mode does not find the state "
    "that Python functions wrote in thread mode"
)
_IMAGE_STEP = f"check image, and pod.image_pull_secrets where its registry needs a login, {_STOP_THEN_SUBMIT}"

RULES: tuple[_Rule, ...] = (
    _rule(
        _ARTIFACT + r" answered (?:404|410)",
        f"the server has no such file: check the URL, {_STOP_THEN_SUBMIT}",
        in_log=True,
    ),
    _rule(
        _ARTIFACT + r" answered (?:401|403)",
        f"the server wants credentials or forbids it: let the pods read the file, {_STOP_THEN_SUBMIT}",
        in_log=True,
    ),
    _rule(
        _ARTIFACT + r" has sha256 [0-9a-f]{64}, not [0-9a-f]{64}",
        "the file is not the one whose hash was given: look at what changed, and submit it with the hash that it has",
        in_log=True,
    ),
    _rule(
        _ARTIFACT + r" is larger than the \d+ bytes allowed",
        "build it into the image and name it by local:///…, or raise HEADRACE_FLINK_MAX_ARTIFACT_BYTES",
        in_log=True,
    ),
    _rule(
        _ARTIFACT + r" refused: host [^\n]{1,200}? is not allowed[^\n]{0,200}",
        "add the host to HEADRACE_FLINK_ALLOWED_HOSTS if it may be fetched from",
        in_log=True,
    ),
    _rule(
        _ARTIFACT + r" refused: (?:plain http without a sha256|a redirect led from https to plain http)[^\n]{0,100}",
        f"give an https URL that leads to https alone, or with plain http the file's sha256, {_STOP_THEN_SUBMIT}",
        in_log=True,
    ),
    _rule(
        _ARTIFACT + r"(?: is not a jar[^\n]{0,100}| is not in the image)",
        f"name the jar itself, {_STOP_THEN_SUBMIT}",
        in_log=True,
    ),
    _rule(
        _ARTIFACT
        + r"(?: cannot be reached| did not answer in time| broke off| answered \d{3}| refused| cannot be stored"
        r"| did not arrive in time)[^\n]{0,200}",
        f"see that the pods can reach the server, {_STOP_THEN_SUBMIT}",
        in_log=True,
    ),
    _rule(
        r"^ErrImageNeverPull (?:\[[^\]\n]+\] )?([^\n]*)",
        f"check image; load it onto the node, or set pod.image_pull_policy to IfNotPresent, {_STOP_THEN_SUBMIT}",
        _said("the image cannot be pulled (ErrImageNeverPull): {0}"),
    ),
    _rule(
        r"^(ErrImagePull|ImagePullBackOff|InvalidImageName|ImageInspectError) (?:\[[^\]\n]+\] )?([^\n]*)",
        _IMAGE_STEP,
        _said("the image cannot be pulled ({0}): {1}"),
    ),
    _rule(
        r"(?:failed to pull and unpack image|Failed to pull image|Back-off pulling image) [^\n]+",
        _IMAGE_STEP,
        lambda found: f"the image cannot be pulled: {found[0]}",
    ),
    _rule(
        r"^Unschedulable ([^\n]+)",
        "add nodes or free some, and it starts by itself; or ask for less in resources, or change pod.node_selector "
        f"or pod.tolerations, {_STOP_THEN_SUBMIT}",
        _said("no node takes the pod: {0}"),
    ),
    _rule(
        r"pods \"[^\"\n]+\" is forbidden: exceeded quota: [^\n]+",
        "stop other jobs of the namespace or have the ResourceQuota raised, and it starts by itself; or ask for less "
        f"in resources, {_STOP_THEN_SUBMIT}",
        in_log=True,
    ),
    _rule(
        r"error looking up service account ([^\s/:]+)/([^\s/:]+): serviceaccount \"[^\"\n]+\" not found",
        "create it, with a Role for pods, configmaps and deployments (the operator's Helm chart makes `flink` in each "
        "of its watchNamespaces), and it starts by itself; or set service_account (HEADRACE_FLINK_SERVICE_ACCOUNT for "
        f"all jobs) to one that is there, {_STOP_THEN_SUBMIT}",
        _said("no pod can be made: namespace {0} has no ServiceAccount {1}"),
        in_log=True,
    ),
    _rule(
        r"couldn't find key \S+ in (?:Secret|ConfigMap) \S+",
        f"add the key, and it starts by itself; or correct it in env, {_STOP_THEN_SUBMIT}",
    ),
    _rule(
        r"is forbidden: User \"[^\n]+",
        "give the account that is named this right, by a Role and a RoleBinding in the namespace; then submit again",
        _line,
        in_log=True,
    ),
    _rule(
        r"Pod terminated, container termination statuses: \[[^\n]{0,400}?reason=OOMKilled",
        f"raise resources.task_manager.memory, {_STOP_THEN_SUBMIT}",
        lambda _: "a TaskManager's pod was killed for its use of memory (OOMKilled)",
        in_log=True,
    ),
    _rule(
        r"java\.lang\.OutOfMemoryError: (Java heap space|GC overhead limit exceeded)[^\n]{0,100}",
        f"raise resources.task_manager.memory (or job_manager.memory, where the JobManager said it), "
        f"{_STOP_THEN_SUBMIT}",
        _said("Flink ran out of memory: {0}"),
        in_log=True,
    ),
    _rule(
        r"java\.lang\.OutOfMemoryError: (Metaspace)[^\n]{0,100}",
        "raise taskmanager.memory.jvm-metaspace.size (jobmanager.memory.jvm-metaspace.size, where the JobManager said "
        f"it) in flink_configuration, {_STOP_THEN_SUBMIT}",
        _said("Flink ran out of memory: {0}"),
        in_log=True,
    ),
    _rule(
        r"java\.lang\.OutOfMemoryError: ((?:Cannot reserve [^\n]{1,100}|Direct buffer) ?[^\n]{0,100})",
        f"raise taskmanager.memory.task.off-heap.size in flink_configuration, {_STOP_THEN_SUBMIT}",
        _said("Flink ran out of memory outside of the heap: {0}"),
        in_log=True,
    ),
    _rule(
        r"Could not find a file system implementation for scheme '([^'\n]+)'",
        "build the image with that filesystem's plugin (flink_app/Dockerfile: S3_PLUGIN=true), or choose another place",
        _said("the image has no plugin for {0}:// locations"),
        in_log=True,
    ),
    _rule(
        _OURS + r"(statement \d+, line \d+: [^\n]+)",
        f"mend the statement, {_STOP_THEN_SUBMIT}",
        _said("{0}"),
        in_log=True,
    ),
    _rule(
        _OURS + r"((?:script|module) \S+, line \d+: [^\n]+)",
        f"mend the script, {_STOP_THEN_SUBMIT}",
        _said("{0}"),
        in_log=True,
    ),
    _rule(
        _OURS + r"(pip (?:could not install|was not done with) [^\n]+)",
        f"correct requirements.txt, or let the pods reach the package index, {_STOP_THEN_SUBMIT}",
        _said("{0}"),
        in_log=True,
    ),
    _rule(
        r"NoSuchFieldException: loadedLibraryNames",
        _LOADED_STEP,
        lambda _: (
            "python.execution-mode is thread, and the TaskManager's JVM could not load Python: it can do so only "
            "once in its life, and only a Python that has a shared libpython"
        ),
        in_log=True,
    ),
    _rule(
        r"(Failed to find libpython|Failed to get pemja path|Failed to find PemJa Library)",
        _PROCESS_STEP,
        _said("python.execution-mode is thread, and the TaskManager's JVM found no Python that it can load: {0}"),
        in_log=True,
    ),
    _rule(
        r"Process died with exit code 127",
        "see that the image has bash, tee and the Python that python.executable names on its PATH, "
        f"{_STOP_THEN_SUBMIT}",
        lambda _: (
            "Python could not be started beside the TaskManager's JVM: a program that is needed for it is not there"
        ),
        in_log=True,
    ),
    _rule(
        r"ModuleNotFoundError: [^\n]+",
        "name the package in a requirements.txt beside the script, or build it into the image; a module of your own "
        "travels with the script",
        lambda found: found[0] + _python_place(found.string),
        in_log=True,
    ),
    _rule(
        r"(?:Could not find the provided job class \(([^)\n]+)\)|ClassNotFoundException: (\S+))",
        "check main_class against the classes of the jar (jar tf), and the jars that it needs in jar_files",
        lambda found: f"the class {found[1] or found[2]} is not in the jar",
        in_log=True,
    ),
    _rule(
        r"(?:Neither a 'Main-Class', nor a 'program-class' entry|does not have a main method"
        r"|The program's entry point class)",
        "set main_class to the class that has the main method",
        _line,
        in_log=True,
    ),
    _rule(
        r"(?:AccessDeniedException: (/\S+)|FileNotFoundException: (/\S+) \(Permission denied\)"
        r"|Mkdirs failed to create (?:file:)?(/\S+))",
        "see that Flink's user (uid 9999) may read and write there",
        lambda found: f"Flink may not use {found[1] or found[2] or found[3]}: permission denied",
    ),
    _rule(
        r"(NoSuchFileException|FileNotFoundException): (?:File file:)?(/\S+)",
        "check that the file is in the image, travels with the job, or is the state that start_from names",
        _said("the file {1} is not there ({0})"),
    ),
    _rule(
        r"(Savepoint Error|Failed to trigger savepoint|Stop with savepoint operation)([^\n]*)",
        "`headrace logs` says why: often Flink's user (uid 9999) may not write to the savepoint directory; then send "
        "STOP again (force ends the job without a savepoint)",
        lambda found: f"the savepoint could not be taken: {found[1]}{_root(found[2])}",
    ),
    _rule(
        r"(?:Connection unexpectedly closed by remote task manager|TaskManager with id \S+ is no longer reachable"
        r"|Heartbeat of TaskManager with id \S+ timed out)",
        "`headrace events` says what became of its pod: memory, eviction, its node",
        lambda found: f"a TaskManager was lost: {_line(found).strip()}",
    ),
    _rule(
        r"Could not acquire the minimum required resources",
        "`headrace events` says what keeps its pod from coming: a node, a quota, its image",
        lambda _: "no TaskManager came in time: Flink could not acquire the minimum required resources",
    ),
    _rule(
        r"\[flink-main-container\] ([A-Za-z_][\w.]*(?:: [^\n]*)? \([^()\n]+, line \d+\))",
        _USER_STEP,
        _said("{0}"),
    ),
)


_WRAPPED = re.compile(r"^(?:[\w.$]+(?:Exception|Error): )+")


def _root(chain: str) -> str:
    """The last of ` <- b <- c`, without the names of exceptions that only wrap it; as it is where it is no chain."""
    _, is_chain, last = chain.rpartition(" <- ")
    return f": {_WRAPPED.sub('', last)}" if is_chain else chain


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
_WRAPPERS = ("org.apache.flink.runtime.JobException", "java.util.concurrent.")
_NOT_THE_USERS_JAVA = ("org.apache.", "java.", "jdk.", "sun.", "scala.", "akka.", "pekko.", "com.sun.")
_PYTHON_ENDED = "Python process exits with code"
"""What Java says of a Python program that failed: nothing, its traceback does."""


def _from_python(text: str) -> Explanation | None:
    words = _python_words(text) or _embedded_python_words(text)
    return Explanation(_short(words), _USER_STEP) if words else None


def _from_java(text: str) -> Explanation | None:
    """The root cause of the last Java stack trace, with the first line of it that is the user's own."""
    causes = [found for found in _CAUSED_BY.finditer(text) if not found[1].startswith(_WRAPPERS)]
    if not causes or _PYTHON_ENDED in causes[-1][1]:
        return None
    root = causes[-1]
    frames = _JAVA_FRAME.finditer(text[root.end() :])
    user = next((f for f in frames if not f[1].startswith(_NOT_THE_USERS_JAVA)), None)
    if user is None:
        return Explanation(_short(root[1]), _LOOK)
    return Explanation(_short(f"{root[1]} ({user[2]}, line {user[3]})"), _USER_STEP)


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
