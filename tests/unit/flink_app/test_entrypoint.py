"""The image's program without a network: what `run` hands to Python, what a failure says, and what `fetch` refuses."""

import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from flink_app.entrypoint import TERMINATION_BYTES, TERMINATION_LOG, AllowedHosts, FetchError, main, shown

ENTRYPOINT = Path(__file__).parents[3] / "flink_app" / "entrypoint.py"


class Pod:
    """A script's folder, a termination log, and the folder of packages that pip may use."""

    def __init__(self, folder: Path) -> None:
        self.script = folder / "job" / "job.py"
        self.log = folder / "termination-log"
        self.wheels = folder / "wheels"
        self.script.parent.mkdir()
        self.wheels.mkdir()

    def write(self, name: str, text: str) -> Path:
        file = self.script.parent / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def run(self, text: str | None = None, *arguments: str, options: tuple[str, ...] = ()) -> "Ended":
        if text is not None:
            self.script.write_text(text)
        ours = ["run", str(self.script), "--termination-log", str(self.log), *options]
        command = [sys.executable, str(ENTRYPOINT), *ours, "--", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return Ended(ended.returncode, ended.stdout.rstrip("\n"), ended.stderr, self.reason())

    def run_with(self, requirements: str, text: str, *options: str) -> "Ended":
        """Runs with a requirements.txt that may name what lies in the folder of packages, and nothing else."""
        file = self.write("requirements.txt", f"--no-index\n--find-links {self.wheels}\n{requirements}\n")
        return self.run(text, options=("--requirements", str(file), *options))

    def reason(self) -> str | None:
        return self.log.read_text() if self.log.exists() else None


class Ended:
    """How a run ended: exit code, what it printed, and what Kubernetes would show as the reason."""

    def __init__(self, code: int, out: str, err: str, reason: str | None) -> None:
        self.code, self.out, self.err, self.reason = code, out, err, reason


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


def test_arguments_reach_the_script_untouched(pod: Pod):
    ended = pod.run("import sys; print(sys.argv[1:])", "-p", "4", "--", "--requirements", "x", "--help")
    assert ended.out == "['-p', '4', '--', '--requirements', 'x', '--help']"


def test_the_script_is_main_and_finds_its_neighbours(pod: Pod):
    pod.write("neighbour.py", "name = 'next door'")
    ended = pod.run(
        "import neighbour, sys\ndef f(): ...\nprint(f.__module__, neighbour.name, sys.argv[0], sys.path[0])"
    )
    assert ended.out == f"__main__ next door {pod.script} {pod.script.parent}"


def test_an_exception_shows_the_scripts_own_traceback(pod: Pod):
    ended = pod.run("x = 1\nraise LookupError('no such orders')\n")
    assert ended.code == 1
    assert f'File "{pod.script}", line 2' in ended.err
    assert ended.err.rstrip().endswith("LookupError: no such orders")


def test_an_exception_is_one_line_in_the_termination_log(pod: Pod):
    ended = pod.run("x = 1\nraise LookupError('no\\n such  orders')\n")
    assert ended.reason == "LookupError: no such orders (job.py, line 2)\n"


def test_the_line_named_is_the_last_in_the_users_own_files(pod: Pod):
    pod.write("lib/parse.py", "import json\n\ndef parse(text):\n    return json.loads(text)\n")
    ended = pod.run("from lib.parse import parse\nparse('nonsense')")
    assert ended.reason == "JSONDecodeError: Expecting value: line 1 column 1 (char 0) (lib/parse.py, line 4)\n"


def test_an_exception_without_a_message_is_named_by_its_type(pod: Pod):
    assert pod.run("raise KeyError").reason == "KeyError (job.py, line 1)\n"


def test_a_missing_module_is_named_with_the_line_that_wants_it(pod: Pod):
    ended = pod.run("import sys\nimport no_such_module")
    assert ended.code == 1
    assert ended.reason == "ModuleNotFoundError: No module named 'no_such_module' (job.py, line 2)\n"


def test_a_name_that_a_module_lacks_is_told(pod: Pod):
    assert str(pod.run("from json import no_such_name").reason).startswith(
        "ImportError: cannot import name 'no_such_name' from 'json'"
    )


def test_of_a_java_errors_stack_traces_the_causes_are_kept_and_the_users_own_frames(pod: Pod):
    java = (
        "failed:\n: JobException: no\n\tat org.flink.Job.run(Job.java:1)\nCaused by: IOException: Traceback:\n"
        '  File "beam/operations.py", line 7, in process\n'
        '  File "/usr/lib/beam.py", line 3, in task\n    response = task()\n               ^^^^^^\n'
        f'  File "{pod.script}", line 6, in boom\n    raise X\nValueError: three\n  is too many\n\t... 2 more\n'
    )
    ended = pod.run(f"raise RuntimeError({java!r})")
    assert ended.reason == (
        "RuntimeError: failed: : JobException: no Caused by: IOException: Traceback: "
        f'File "{pod.script}", line 6, in boom ValueError: three is too many (job.py, line 1)\n'
    )


def test_the_termination_log_holds_what_kubernetes_keeps_with_both_ends(pod: Pod):
    reason = str(pod.run("raise ValueError('first ' + 'é' * 9000 + ' last')").reason)
    assert len(reason.encode()) <= TERMINATION_BYTES
    assert reason.startswith("ValueError: first é")
    assert reason.endswith("é last (job.py, line 1)\n")


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param("class Odd(Exception):\n    def __str__(self): raise OSError\nraise Odd", id="no text"),
        pytest.param("class Odd(Exception): ...\nraise Odd('\\udcff')", id="text that is no unicode"),
    ],
)
def test_an_exception_that_cannot_be_told_is_still_the_one_that_ends_the_run(pod: Pod, trouble: str):
    ended = pod.run(trouble)
    assert ended.code == 1
    assert ended.err.rstrip().splitlines()[-1].startswith("Odd: ")


def test_a_termination_log_that_cannot_be_written_hides_nothing(pod: Pod):
    pod.script.write_text("raise LookupError('no such orders')")
    command = [sys.executable, str(ENTRYPOINT), "run", str(pod.script), "--termination-log", str(pod.wheels)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr.rstrip().endswith("LookupError: no such orders")


def test_outside_a_pod_no_termination_log_is_made(pod: Pod):
    existed = TERMINATION_LOG.exists()
    pod.script.write_text("raise SystemExit(1)")
    subprocess.run([sys.executable, str(ENTRYPOINT), "run", str(pod.script)], timeout=60, check=False)
    assert TERMINATION_LOG.exists() == existed


@pytest.mark.parametrize("leaving", ["sys.exit(0)", "sys.exit()", "pass"])
def test_a_script_that_leaves_in_peace_is_a_success(pod: Pod, leaving: str):
    ended = pod.run(f"import sys\n{leaving}")
    assert (ended.code, ended.err, ended.reason) == (0, "", None)


def test_the_scripts_exit_code_is_kept_and_told(pod: Pod):
    ended = pod.run("import sys\nsys.exit(3)")
    assert (ended.code, ended.reason) == (3, "SystemExit: 3 (job.py, line 2)\n")


def test_words_given_to_exit_are_the_reason(pod: Pod):
    ended = pod.run("import sys\nsys.exit('say --input')")
    assert (ended.code, ended.err) == (1, "say --input\n")
    assert ended.reason == "SystemExit: say --input (job.py, line 2)\n"


def test_a_syntax_error_is_one_line_with_file_line_and_text(pod: Pod):
    ended = pod.run("x = 1\nfor y in :\n")
    assert ended.code == 1
    assert ended.err == f"script {pod.script}, line 2: invalid syntax: for y in :\n"
    assert ended.reason == ended.err


def test_the_first_wrong_file_below_the_script_is_named_before_anything_runs(pod: Pod):
    pod.write("lib/a.py", "fine = 1")
    pod.write("lib/b.py", "def f(:\n")
    pod.write("lib/c.py", "def g(:\n")
    ended = pod.run("print('ran')")
    assert (ended.code, ended.out) == (1, "")
    assert ended.reason == "module lib/b.py, line 1: invalid syntax: def f(:\n"


def test_the_script_is_checked_before_its_modules(pod: Pod):
    pod.write("a.py", "def f(:\n")
    assert str(pod.run("def g(:\n").reason).startswith(f"script {pod.script}, line 1: ")


def test_what_is_hidden_or_not_python_is_not_checked(pod: Pod):
    pod.write(".old/a.py", "def f(:\n")
    pod.write("notes.txt", "def f(:\n")
    assert pod.run("print('ran')").out == "ran"


def test_files_of_a_config_map_are_checked_and_imported(pod: Pod):
    data = pod.script.parent / "..2026_01_01"
    pod.write("..2026_01_01/job.py", "from lib import words\nraise LookupError(words.name)")
    pod.write("..2026_01_01/lib/words.py", "name = 'orders'")
    (pod.script.parent / "..data").symlink_to(data.name)
    pod.script.symlink_to("..data/job.py")
    (pod.script.parent / "lib").symlink_to("..data/lib")
    assert pod.run().reason == "LookupError: orders (job.py, line 2)\n"
    (data / "lib" / "words.py").write_text("name = ")
    assert pod.run().reason == "module lib/words.py, line 1: invalid syntax: name =\n"


def test_a_warning_of_the_compiler_shows_once(pod: Pod):
    assert pod.run("x = 1 is 1").err.count("SyntaxWarning") == 1


def test_a_missing_script_is_named(pod: Pod):
    ended = pod.run()
    said = f"script {pod.script} cannot be read: No such file or directory\n"
    assert (ended.code, ended.err, ended.reason) == (1, said, said)


def wheel(folder: Path, name: str, version: str, text: str) -> None:
    """The smallest thing that pip installs."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as made:
        made.writestr(f"{name}.py", text)
        made.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        made.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        made.writestr(f"{info}/RECORD", "")


def unbuildable(folder: Path, name: str) -> None:
    with tarfile.open(folder / f"{name}-1.0.tar.gz", "w:gz") as made:
        setup = tarfile.TarInfo(f"{name}-1.0/setup.py")
        text = b"raise RuntimeError('needs a compiler')\n"
        setup.size = len(text)
        made.addfile(setup, io.BytesIO(text))


def test_requirements_are_there_when_the_script_runs_and_gone_after_it(pod: Pod):
    wheel(pod.wheels, "tiny", "1.0", "size = 'tiny'")
    ended = pod.run_with("tiny==1.0", "import sys, tiny\nprint(tiny.size)\nprint(tiny.__file__)\nprint(*sys.path[:2])")
    size, file, path = ended.out.splitlines()
    assert size == "tiny"
    assert path == f"{pod.script.parent} {Path(file).parent}"
    assert not Path(file).parent.exists()
    assert ended.reason is None


def test_the_scripts_neighbours_come_before_its_requirements(pod: Pod):
    wheel(pod.wheels, "tiny", "1.0", "size = 'installed'")
    pod.write("tiny.py", "size = 'next door'")
    assert pod.run_with("tiny", "import tiny\nprint(tiny.size)").out == "next door"


def test_what_the_script_leaves_to_its_end_still_finds_its_requirements(pod: Pod):
    wheel(pod.wheels, "tiny", "1.0", "size = 'tiny'")
    late = "import atexit\n@atexit.register\ndef late():\n    import tiny\n    print(tiny.size)"
    assert pod.run_with("tiny", late).out == "tiny"


def test_an_exception_in_a_requirement_names_the_users_line(pod: Pod):
    wheel(pod.wheels, "tiny", "1.0", "def grow():\n    raise OverflowError('too big')")
    ended = pod.run_with("tiny", "import tiny\n\ntiny.grow()")
    assert ended.reason == "OverflowError: too big (job.py, line 3)\n"


def test_an_empty_requirements_file_asks_for_nothing(pod: Pod):
    assert pod.run_with("# none yet", "print('ran')").out == "ran"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("no-such-thing==7", "No matching distribution found for no-such-thing==7"),
        ("tiny==2.0", "the requirement tiny==2.0 (from versions: 1.0)"),
        ("two words", "Invalid requirement: 'two words' (from line 3"),
        ("unbuildable", "unbuildable-1.0.tar.gz"),
    ],
)
def test_a_requirement_that_cannot_be_installed_is_named_and_nothing_runs(pod: Pod, wanted: str, told: str):
    wheel(pod.wheels, "tiny", "1.0", "size = 'tiny'")
    unbuildable(pod.wheels, "unbuildable")
    ended = pod.run_with(wanted, "print('ran')")
    assert (ended.code, ended.out) == (1, "")
    reason = str(ended.reason)
    assert reason.startswith(f"pip could not install {pod.script.parent}/requirements.txt: ")
    assert told in reason
    assert reason.count("\n") == 1
    assert ended.err.endswith(reason)


def test_a_missing_requirements_file_is_named(pod: Pod):
    ended = pod.run("print('ran')", options=("--requirements", "/no/such.txt"))
    assert (ended.code, ended.out) == (1, "")
    assert "Could not open requirements file" in str(ended.reason)
    assert "/no/such.txt" in str(ended.reason)


def test_an_indexs_password_is_not_printed(pod: Pod):
    index = "--extra-index-url http://me:secret@127.0.0.1:1/simple"
    ended = pod.run_with(f"{index}\nno-such-thing @ http://me:secret@127.0.0.1:1/x.whl --nonsense", "print('ran')")
    assert ended.code == 1
    assert "secret" not in ended.err
    assert "secret" not in str(ended.reason)


def test_pip_has_a_time_to_be_done_in(pod: Pod):
    os.mkfifo(pod.script.parent / "never.txt")  # which nobody writes: pip is never done with it
    ended = pod.run_with("-r never.txt", "print('ran')", "--requirements-timeout-seconds", "0.01")
    assert (ended.code, ended.out) == (1, "")
    assert ended.reason == f"pip was not done with {pod.script.parent}/requirements.txt after 0.01 seconds\n"


def test_syntax_is_checked_before_pip_is_asked(pod: Pod):
    assert "invalid syntax" in str(pod.run_with("no-such-thing", "def f(:\n").reason)


@pytest.mark.parametrize(
    "url",
    [
        "http://other.example/x.py",
        "http://good.example.evil.example/x.py",
        "http://good.example@evil.example/x.py",
        "http://ported.example/x.py",
        "file:///etc/passwd",
        "ftp://good.example/x.py",
        "local:///etc/passwd",
        "http:///x.py",
        "http://good.example:what/x.py",
        "http://[::1/x.py",
    ],
)
def test_what_is_not_on_the_list_is_refused(url: str):
    with pytest.raises(FetchError):
        AllowedHosts("good.example, ported.example:8443").check(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://good.example/x.py",
        "http://GOOD.example:81/x.py",
        "https://ported.example:8443/x.py",
        "https://secure.example/x.py",
        "http://[::1]:80/x.py",
    ],
)
def test_what_is_on_the_list_is_allowed(url: str):
    AllowedHosts("good.example,ported.example:8443,secure.example:443,[::1]:80").check(url)


OTHERS = ["http://good.example/x.py", "http://10.0.0.1/x.py", "http://localhost.good.example/x.py"]
OWN = ["http://localhost:81/x.py", "http://127.0.0.1/x.py", "http://[::1]/x.py", "https://good.example/x.py"]
HOSTS = "good.example,10.0.0.1,localhost.good.example,localhost,127.0.0.1,[::1]"


@pytest.mark.parametrize("url", OTHERS)
def test_plain_http_of_another_machine_is_taken_with_a_digest_alone(tmp_path: Path, url: str):
    AllowedHosts(HOSTS).check(url)
    with pytest.raises(FetchError, match="refused: plain http without a sha256"):
        AllowedHosts(HOSTS).without_plain_http().check(url)
    log, options = tmp_path / "log", ["--allowed-hosts", HOSTS, "--max-bytes", "9", "--timeout-seconds", "0.2"]
    command = ["fetch", *options, "--termination-log", str(log), "--artifact", "SCRIPT_URL", url, str(tmp_path / "a")]
    assert main([*command, "-"]) == 1
    assert log.read_text().startswith(f"SCRIPT_URL {url} refused: plain http without a sha256; ")


@pytest.mark.parametrize("url", OWN)
def test_https_and_the_machine_itself_need_no_digest(url: str):
    AllowedHosts(HOSTS).without_plain_http().check(url)


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://me:secret@x.example:1/a.py?token=t#f", "https://x.example:1/a.py"),
        ("local:///opt/flink/usrlib/x.jar", "local:///opt/flink/usrlib/x.jar"),
        ("local://me:secret@x/y.jar", "local://x/y.jar"),
        ("x.py", "x.py"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url: str, safe: str):
    assert shown(url) == safe


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "https://me:secret@evil.example/x.py",
            "https://evil.example/x.py refused: host evil.example is not allowed (allowed: good.example)",
        ),
        ("s3://bucket/x.jar", "s3://bucket/x.jar refused: only http and https are fetched"),
        ("http://me:secret@good.example:what/x", "is not a URL: its host or port cannot be read"),
        ("https://good.example/a b?secret", "https://good.example/a b is not a URL: a character of it must be escaped"),
        ("https://good.example/ü?secret", "https://good.example/ü is not a URL: a character of it must be escaped"),
    ],
)
def test_a_refusal_is_one_line_in_the_termination_log(tmp_path: Path, url: str, said: str):
    to, log = tmp_path / "in" / "job.py", tmp_path / "log"
    options = ["--allowed-hosts", "good.example", "--max-bytes", "9", "--termination-log", str(log)]
    assert main(["fetch", *options, "--artifact", "SCRIPT_URL", url, str(to), "-"]) == 1
    assert log.read_text() == f"SCRIPT_URL {said}\n"
    assert list(to.parent.iterdir()) == []
