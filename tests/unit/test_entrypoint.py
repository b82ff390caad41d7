"""The image's program without a network: what `run` hands to Python, and which URLs `fetch` refuses unasked."""

import subprocess
import sys
from pathlib import Path

import pytest

from flink_app.entrypoint import AllowedHosts, FetchError, main, shown

ENTRYPOINT = Path(__file__).parents[2] / "flink_app" / "entrypoint.py"


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ENTRYPOINT), "run", str(script), "--", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "job.py"


def test_arguments_reach_the_script_untouched(script: Path):
    script.write_text("import sys; print(sys.argv[1:])")
    assert run(script, "-p", "4", "--", "--help").stdout.strip() == "['-p', '4', '--', '--help']"


def test_the_script_is_main_and_finds_its_neighbours(script: Path):
    (script.parent / "neighbour.py").write_text("name = 'next door'")
    script.write_text("import neighbour, sys\ndef f(): ...\nprint(f.__module__, neighbour.name, sys.argv[0])")
    assert run(script).stdout.strip() == f"__main__ next door {script}"


def test_an_exception_shows_the_scripts_own_traceback(script: Path):
    script.write_text("x = 1\nraise LookupError('no such orders')\n")
    ended = run(script)
    assert ended.returncode == 1
    assert f'File "{script}", line 2' in ended.stderr
    assert ended.stderr.rstrip().endswith("LookupError: no such orders")


def test_the_scripts_exit_code_is_kept(script: Path):
    script.write_text("raise SystemExit(7)")
    assert run(script).returncode == 7


def test_a_syntax_error_names_file_line_and_text(script: Path):
    script.write_text("x = 1\nfor y in :\n")
    ended = run(script)
    assert ended.returncode == 1
    assert f"script {script}, line 2: invalid syntax" in ended.stderr
    assert "for y in :" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_missing_script_is_named(script: Path):
    ended = run(script)
    assert (ended.returncode, ended.stderr.strip()) == (1, f"script {script} cannot be read: No such file or directory")


@pytest.mark.parametrize(
    "url",
    [
        "http://other.example/x.py",
        "http://good.example.evil.example/x.py",
        "http://good.example@evil.example/x.py",
        "http://ported.example/x.py",
        "file:///etc/passwd",
        "ftp://good.example/x.py",
        "http:///x.py",
        "http://good.example:what/x.py",
        "http://[::1/x.py",
    ],
)
def test_what_is_not_on_the_list_is_refused(url: str):
    with pytest.raises(FetchError, match="SCRIPT_URL"):
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


def test_a_url_is_shown_without_what_may_be_secret():
    assert shown("https://me:secret@x.example:1/a.py?token=t#f") == "https://x.example:1/a.py"


def test_a_refusal_is_one_line_in_the_termination_log(tmp_path: Path):
    to, log = tmp_path / "in" / "job.py", tmp_path / "log"
    url = "https://me:secret@evil.example/x.py"
    options = ["--allowed-hosts", "good.example", "--max-bytes", "9", "--termination-log", str(log)]
    assert main(["fetch", "--url", url, "--to", str(to), *options]) == 1
    assert log.read_text() == (
        "SCRIPT_URL https://evil.example/x.py refused: host evil.example is not allowed (allowed: good.example)\n"
    )
    assert list(to.parent.iterdir()) == []
