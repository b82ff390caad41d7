"""Who we are to the API server: what tokens, files and plugins do meanwhile, and what may be wrong in a kubeconfig."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.adapters.kubernetes import connect
from headrace.adapters.kubernetes.credentials import Credentials
from headrace.adapters.kubernetes.exec_plugin import Plugin, PluginFailure
from headrace.domain.jobs import JobKey
from headrace.domain.operations import KindName, State
from headrace.errors import ConfigurationError, Unavailable
from headrace.ports import FlinkRuntime, LogPart
from tests.integration.conftest import HERE, SCRIPT, installed
from tests.support import workers
from tests.support.clusters import Cluster
from tests.support.kube_apiserver import client_certificate
from tests.support.patience import REQUEST_SECONDS, wait_for
from tests.support.rights import await_rights

TIMEOUT_SECONDS = REQUEST_SECONDS
API_VERSION = "client.authentication.k8s.io/v1"
FAR = "2100-01-01T00:00:00Z"
Way = Callable[[FlinkRuntime], Any]
WAYS: Mapping[str, Way] = {
    "get": lambda runtime: runtime.get("default", "none"),
    "list": lambda runtime: list(runtime.list_pages("default")),
    "watch": lambda runtime: list(runtime.watch("default", "0", 1)),
    "follow a log": lambda runtime: runtime.logs("default", "none", "main", LogPart(follow_seconds=1)),
    "ask a JobManager": lambda runtime: runtime.ask_job_manager("GET", "default", "none", "/jobs"),  # type: ignore[attr-defined]
}
every_way = pytest.mark.parametrize("call", WAYS.values(), ids=WAYS.keys())


@pytest.fixture(params=["local", "real"])
def place(request: pytest.FixtureRequest, clusters: Callable[[str], Cluster]) -> Cluster:
    return clusters(request.param)


def entries(place: Cluster) -> dict[str, Any]:
    assert place.kubeconfig is not None
    content: dict[str, Any] = yaml.safe_load(place.kubeconfig.read_text())
    return content


def token_of(place: Cluster) -> str:
    return str(entries(place)["users"][0]["user"]["token"])


def kubeconfig(folder: Path, place: Cluster, user: Mapping[str, Any]) -> Path:
    """This place's, as another user."""
    content = entries(place)
    content["users"][0]["user"] = dict(user)
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return path


def plugin(folder: Path, script: str) -> dict[str, Any]:
    """A user's entry with a plugin that writes a line for each of its runs, and then does this."""
    file = folder / "plugin.sh"
    file.write_text(f'#!/bin/sh\ncd "{folder}"\necho run >> runs\n{script}\n')
    file.chmod(0o755)
    return {"exec": {"apiVersion": API_VERSION, "command": "./plugin.sh", "interactiveMode": "Never"}}


def prints(folder: Path, **status: Any) -> str:
    """What a plugin has to print for these credentials, in a file beside it."""
    content = {"apiVersion": API_VERSION, "kind": "ExecCredential", "status": status}
    (folder / "credential.json").write_text(json.dumps(content))
    return "cat credential.json"


def runs(folder: Path) -> int:
    file = folder / "runs"
    return len(file.read_text().splitlines()) if file.exists() else 0


@every_way
def test_a_token_file_is_read_again_where_its_token_is_refused(place: Cluster, call: Way, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("of-yesterday\n")
    runtime = connect(kubeconfig(tmp_path, place, {"tokenFile": "token"}), TIMEOUT_SECONDS)
    with pytest.raises(Unavailable, match="401"):
        runtime.get("default", "none")
    token.write_text(f"{token_of(place)}\n")
    call(runtime)


def test_a_token_bound_to_an_account_that_was_made_anew_is_followed_by_the_next(
    clusters: Callable[[str], Cluster], tmp_path: Path
) -> None:
    place, token = clusters("real"), tmp_path / "token"
    with account(place, "rotated") as renewed:
        token.write_text(renewed())
        path = kubeconfig(tmp_path, place, {"tokenFile": str(token)})
        runtime = connect(path, TIMEOUT_SECONDS)
        assert runtime.get("default", "none") is None
        first = token.read_text()
        token.write_text(renewed())
        wait_for("the first token to be refused", lambda: refuses(place, first), 30)
        assert runtime.get("default", "none") is None


@contextmanager
def account(place: Cluster, name: str) -> Iterator[Callable[[], str]]:
    """An account that may read; each call makes it anew, which ends the tokens of before, and gives a token."""
    assert place.http is not None
    http, path = place.http, "/api/v1/namespaces/default/serviceaccounts"
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
    }
    bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    http.post(bindings, json=binding).raise_for_status()
    await_rights(place.http)

    def renewed() -> str:
        http.delete(f"{path}/{name}")
        http.post(path, json={"metadata": {"name": name}}).raise_for_status()
        made = http.post(f"{path}/{name}/token", json={"spec": {"expirationSeconds": 600}})
        return str(made.raise_for_status().json()["status"]["token"])

    yield renewed
    http.delete(f"{bindings}/{name}").raise_for_status()
    http.delete(f"{path}/{name}").raise_for_status()


def refuses(place: Cluster, token: str) -> bool:
    assert place.http is not None
    return place.http.get("/api", headers={"Authorization": f"Bearer {token}"}).status_code == 401


@pytest.mark.parametrize("content", [None, "", "\n"], ids=["missing", "empty", "a line's end"])
def test_a_token_file_that_is_not_written_yet_is_waited_for(
    place: Cluster, content: str | None, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content)
    runtime = connect(kubeconfig(tmp_path, place, {"tokenFile": "token"}), TIMEOUT_SECONDS)
    with pytest.raises(Unavailable, match=r"HEADRACE_KUBECONFIG: .*token"):
        runtime.get("default", "none")
    token.write_text(token_of(place))
    assert runtime.get("default", "none") is None


def test_the_file_counts_where_a_token_stands_beside_it(place: Cluster, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(token_of(place))
    runtime = connect(kubeconfig(tmp_path, place, {"tokenFile": "token", "token": "of-yesterday"}), TIMEOUT_SECONDS)
    assert runtime.get("default", "none") is None


@every_way
def test_a_plugin_that_fails_twice_is_waited_for_and_we_are_never_anonymous(
    place: Cluster, call: Way, tmp_path: Path
) -> None:
    works = prints(tmp_path, token=token_of(place))
    user = plugin(tmp_path, f'[ "$(wc -l < runs)" -gt 2 ] || {{ echo "no {{route}}" >&2; exit 7; }}\n{works}')
    runtime = connect(kubeconfig(tmp_path, place, user), TIMEOUT_SECONDS)
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"the plugin \./plugin\.sh ended with 7: no \{route\}"):
            call(runtime)
    call(runtime)
    call(runtime)
    assert runs(tmp_path) == 3


def test_a_submit_waits_for_a_plugin_that_fails(
    clusters: Callable[[str], Cluster], mongodb_url: str, redis_url: str, tmp_path: Path
) -> None:
    place, key = clusters("local"), JobKey("default", "waits-for-a-plugin")
    works = prints(tmp_path, token=token_of(place))
    user = plugin(tmp_path, f"[ -e works ] || exit 1\n{works}")
    path = kubeconfig(tmp_path, place, user)
    with installed(tmp_path, mongodb_url, redis_url, place, HEADRACE_KUBECONFIG=str(path)) as made:
        services = made.services
        accept, asked = services.accept.operation, {"job_config": {"script": SCRIPT}}
        accepted = accept(KindName.SUBMIT, key.job_id, asked, tenant=key.tenant, key="k", source=HERE)
        with pytest.raises(Unavailable, match=r"plugin\.sh ended with 1"):
            services.execute.oldest_open_operation(key)
        (tmp_path / "works").touch()
        services.execute.oldest_open_operation(key)
        operation = services.records.operation(key.tenant, accepted.operation.id)
        assert operation is not None
        assert operation.state is State.RUNNING
        assert services.runtime.get("default", key.job_id) is not None


@pytest.mark.parametrize(("until", "asked"), [("2020-01-01T00:00:00Z", 3), (FAR, 1), (None, 1)])
def test_a_plugin_is_asked_again_once_what_it_gave_has_expired(
    place: Cluster, until: str | None, asked: int, tmp_path: Path
) -> None:
    user = plugin(tmp_path, prints(tmp_path, token=token_of(place), expirationTimestamp=until))
    runtime = connect(kubeconfig(tmp_path, place, user), TIMEOUT_SECONDS)
    for _ in range(3):
        assert runtime.get("default", "none") is None
    assert runs(tmp_path) == asked


def test_a_plugin_is_asked_again_where_its_token_is_refused_before_its_time(place: Cluster, tmp_path: Path) -> None:
    prints(tmp_path, token="revoked", expirationTimestamp=FAR)
    (tmp_path / "credential.json").rename(tmp_path / "revoked.json")
    works = prints(tmp_path, token=token_of(place), expirationTimestamp=FAR)
    user = plugin(tmp_path, f'[ "$(wc -l < runs)" -gt 1 ] || {{ cat revoked.json; exit 0; }}\n{works}')
    assert connect(kubeconfig(tmp_path, place, user), TIMEOUT_SECONDS).get("default", "none") is None
    assert runs(tmp_path) == 2


@pytest.mark.parametrize("by", ["plugin", "files", "data"])
def test_a_client_certificate_that_is_renewed_counts(
    clusters: Callable[[str], Cluster], by: str, tmp_path: Path
) -> None:
    place = clusters("real")
    assert place.folder is not None
    runtime = None
    for lifetime in (timedelta(days=-1), timedelta(days=1)):
        certificate, key = client_certificate(place.folder, "admin", "system:masters", lifetime)
        path = kubeconfig(tmp_path, place, certified(tmp_path, by, certificate, key))
        runtime = runtime or connect(path, TIMEOUT_SECONDS)
        if lifetime < timedelta():
            with pytest.raises(Unavailable, match="401"):
                runtime.get("default", "none")
    assert runtime is not None
    assert runtime.get("default", "none") is None


def certified(folder: Path, by: str, certificate: str, key: str) -> dict[str, Any]:
    if by == "plugin":
        return plugin(folder, prints(folder, clientCertificateData=certificate, clientKeyData=key))
    if by == "files":
        (folder / "tls.crt").write_text(certificate)
        (folder / "tls.key").write_text(key)
        return {"client-certificate": "tls.crt", "client-key": "tls.key"}
    data = {"client-certificate-data": certificate, "client-key-data": key}
    return {name: base64.b64encode(text.encode()).decode() for name, text in data.items()}


def test_the_service_account_of_a_pod_is_read_again_where_its_token_is_refused(
    clusters: Callable[[str], Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, token = clusters("real"), tmp_path / "token"
    cluster = entries(place)["clusters"][0]["cluster"]
    host, _, port = cluster["server"].removeprefix("https://").partition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_CERT_FILENAME", cluster["certificate-authority"])
    with pytest.raises(ConfigurationError, match="the pod's service account: Service token file does not exist"):
        connect(None, TIMEOUT_SECONDS)
    token.write_text("of-yesterday")
    runtime = connect(None, TIMEOUT_SECONDS)
    with pytest.raises(Unavailable, match="401"):
        runtime.get("default", "none")
    token.write_text("")
    with pytest.raises(Unavailable, match="empty"):
        runtime.get("default", "none")
    token.write_text(token_of(place))
    assert runtime.get("default", "none") is None


def test_a_certificate_that_is_not_to_be_checked_is_not_spoken_of(
    clusters: Callable[[str], Cluster], tmp_path: Path
) -> None:
    """Warnings are errors here."""
    place = clusters("real")
    content = entries(place)
    server = content["clusters"][0]["cluster"]["server"]
    content["clusters"][0]["cluster"] = {"server": server, "insecure-skip-tls-verify": True}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(content))
    assert connect(tmp_path / "kubeconfig", TIMEOUT_SECONDS).get("default", "none") is None


@every_way
def test_what_is_refused_is_tried_once_more_and_no_further(call: Way, tmp_path: Path) -> None:
    with refusing() as (url, seen):
        write(tmp_path / "kubeconfig", server=url)
        runtime = connect(tmp_path / "kubeconfig", TIMEOUT_SECONDS)
        if call is WAYS["ask a JobManager"]:
            assert runtime.ask_job_manager("GET", "default", "none", "/jobs").status == 401
        else:
            with pytest.raises(Unavailable, match="newly read credentials are refused as well"):
                call(runtime)
        assert len(seen) == 2
        assert set(seen) == {"Bearer SECRET"}


@contextmanager
def refusing() -> Iterator[tuple[str, list[str | None]]]:
    """A server that knows nobody, and the authorizations that it was sent."""
    seen: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            self.send_response(401)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
        server.shutdown()


def test_a_plugin_that_hangs_is_ended_with_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(tmp_path, "sleep 600 & echo $! > part && mv part child; sleep 600")
    communicate = subprocess.Popen.communicate

    def once_it_has_started_one(*given: Any, **bound: Any) -> Any:
        wait_for("the plugin to start another process", (tmp_path / "child").exists)
        return communicate(*given, **bound)

    monkeypatch.setattr(subprocess.Popen, "communicate", once_it_has_started_one)
    asked = Plugin([str(tmp_path / "plugin.sh")], dict(os.environ), None, API_VERSION, None, "")
    with pytest.raises(PluginFailure, match="did not end within 1 s"):
        asked.ask(seconds=1)
    child = int((tmp_path / "child").read_text())
    wait_for("what it started to end", lambda: not is_running(child))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def test_who_waits_while_a_plugin_fails_does_not_run_it_once_more(tmp_path: Path) -> None:
    user = plugin(tmp_path, "until [ -e go ]; do sleep 0.05; done; exit 1")
    write(tmp_path / "kubeconfig", user=user)
    credentials, failures = Credentials(tmp_path / "kubeconfig"), []

    def ask() -> None:
        with pytest.raises(Unavailable) as raised:
            credentials.access()
        failures.append(str(raised.value))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    wait_for("the plugin to run", lambda: runs(tmp_path) == 1)
    wait_for("all to ask", lambda: all(has_asked(thread) for thread in threads))
    (tmp_path / "go").touch()
    for thread in threads:
        thread.join(30)
    assert len(failures) == len(threads)
    assert runs(tmp_path) == 1


def has_asked(thread: threading.Thread) -> bool:
    """Whether this thread is in `access`, and past its first line: it has noted since when it asks."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code is Credentials.access.__code__:
            return "asked_at" in frame.f_locals
        frame = frame.f_back
    return False


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 0", "printed no ExecCredential"),
        ("echo '[1]'", "printed no ExecCredential"),
        ('echo \'{"status": {"token": "SECRET"\'', "printed no ExecCredential"),
        ('echo \'{"apiVersion": "v0", "status": {"token": "SECRET"}}\'', "printed another apiVersion"),
        (f'echo \'{{"apiVersion": "{API_VERSION}", "status": {{}}}}\'', "neither a token nor a client certificate"),
        (
            f'echo \'{{"apiVersion": "{API_VERSION}", "status": {{"clientCertificateData": "SECRET"}}}}\'',
            "neither a token nor a client certificate",
        ),
        (
            f'echo \'{{"apiVersion": "{API_VERSION}", "status": {{"token": "SECRET", "expirationTimestamp": "x"}}}}\'',
            "printed no ExecCredential",
        ),
        ("echo SECRET; echo one >&2; echo two >&2; exit 3", "ended with 3: one two"),
        ("echo SECRET; exit 3", "ended with 3: it said nothing"),
    ],
)
def test_a_plugin_that_gives_no_credentials_is_said_in_a_line_without_them(
    script: str, words: str, tmp_path: Path
) -> None:
    write(tmp_path / "kubeconfig", user=plugin(tmp_path, script))
    with pytest.raises(Unavailable, match=words) as raised:
        Credentials(tmp_path / "kubeconfig").access()
    assert "SECRET" not in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_plugin_that_is_not_installed_is_said_with_the_kubeconfigs_hint(tmp_path: Path) -> None:
    called = {"apiVersion": API_VERSION, "command": "no-such-program", "installHint": "Get it from\nthe cloud."}
    write(tmp_path / "kubeconfig", user={"exec": called})
    with pytest.raises(Unavailable, match=r"no-such-program could not be started: .*; Get it from the cloud\.$"):
        Credentials(tmp_path / "kubeconfig").access()


def test_a_plugin_is_told_of_its_cluster_where_the_kubeconfig_says_so(tmp_path: Path) -> None:
    user = plugin(tmp_path, f'echo "$KUBERNETES_EXEC_INFO $GREETING $1" > told\n{prints(tmp_path, token="t")}')
    user["exec"] |= {"provideClusterInfo": True, "args": ["one"], "env": [{"name": "GREETING", "value": "hello"}]}
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}}
    write(tmp_path / "kubeconfig", user=user, cluster={"extensions": [extension]})
    assert Credentials(tmp_path / "kubeconfig").access().headers == {"Authorization": "Bearer t"}
    told, _, rest = (tmp_path / "told").read_text().rpartition("} ")
    assert rest == "hello one\n"
    info = json.loads(told + "}")
    assert info["spec"]["interactive"] is False
    assert info["spec"]["cluster"]["config"] == {"audience": "a"}
    assert info["spec"]["cluster"]["server"] == "https://127.0.0.1:1"


def write(
    path: Path, *, user: Any = None, cluster: Mapping[str, Any] | None = None, server: str = "", **more: Any
) -> Path:
    """A kubeconfig of one context; `more` replaces its parts."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server or "https://127.0.0.1:1", **(cluster or {})}}],
        "users": [{"name": "u", "user": {"token": "SECRET"} if user is None else user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
        **more,
    }
    path.write_text(yaml.safe_dump(content))
    return path


def text(content: str | bytes) -> Callable[[Path], None]:
    def write_text(path: Path) -> None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return write_text


def wrong(**parts: Any) -> Callable[[Path], None]:
    def write_wrong(path: Path) -> None:
        write(path, **parts)

    return write_wrong


WRONG: Mapping[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda path: path.unlink(missing_ok=True), "there is no such file"),
    "a folder": (lambda path: path.mkdir(), "Is a directory"),
    "empty": (text(""), "empty"),
    "broken YAML": (text("users: [\n  {name: u, user: {token: SECRET}\n"), "line"),
    "no YAML at all": (text(b"\xff\xfe\x00"), "cannot be read as a kubeconfig"),
    "a text": (text("SECRET"), "cannot be read as a kubeconfig"),
    "a list": (text("- SECRET"), "cannot be read as a kubeconfig"),
    "users that are none": (wrong(users=["SECRET"]), "'name' key"),
    "no current context": (wrong(**{"current-context": None}), "current-context"),
    "a context that is missing": (wrong(**{"current-context": "y"}), "name y in"),
    "a cluster that is missing": (wrong(clusters=[]), "name c in"),
    "a user that is missing": (wrong(users=[]), "names user u, and there is none"),
    "a token beside its user": (wrong(users=[{"name": "u", "token": "SECRET"}]), "Expected key user in"),
    "a user that is a text": (wrong(user="SECRET"), "user u is no mapping"),
    "no server": (wrong(clusters=[{"name": "c", "cluster": {}}]), "cluster c needs a server"),
    "a server without a scheme": (wrong(server="127.0.0.1:1"), "cluster c needs a server that begins with https://"),
    "an authority that is missing": (wrong(cluster={"certificate-authority": "ca.crt"}), "does not exist: .*ca.crt"),
    "an authority that is a folder": (wrong(cluster={"certificate-authority": "."}), "does not exist"),
    "an authority that is none": (
        wrong(cluster={"certificate-authority": "kubeconfig"}),
        "the certificate authority in .*kubeconfig cannot be used",
    ),
    "an authority of no base64": (wrong(cluster={"certificate-authority-data": "SECRET"}), "padding"),
    "a certificate that is none": (
        wrong(user={"client-certificate": "kubeconfig", "client-key": "kubeconfig"}),
        "the client certificate in .*kubeconfig and its key cannot be used",
    ),
    "a provider that is not known": (
        wrong(user={"auth-provider": {"name": "azure", "config": {"access-token": "SECRET"}}}),
        "user u has none of the credentials that are known here, only auth-provider",
    ),
    "a plugin without a command": (wrong(user={"exec": {"apiVersion": API_VERSION}}), "command"),
    "a name without a password": (wrong(user={"username": "me"}), "only username"),
}
every_wrong = pytest.mark.parametrize(("spoil", "words"), WRONG.values(), ids=WRONG.keys())


@every_wrong
def test_a_wrong_kubeconfig_is_one_line_at_the_start(spoil: Callable[[Path], Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    spoil(path)
    with pytest.raises(ConfigurationError, match=words) as raised:
        connect(path, TIMEOUT_SECONDS)
    line = str(raised.value)
    assert line.startswith(f"HEADRACE_KUBECONFIG: {path}: ")
    assert len(line.splitlines()) == 1
    assert "SECRET" not in line


@every_wrong
def test_a_kubeconfig_that_is_wrong_for_a_moment_is_waited_for(
    spoil: Callable[[Path], Any], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "kubeconfig"
    write(path, cluster={"insecure-skip-tls-verify": True})
    credentials = Credentials(path)
    credentials.forget(credentials.access())
    path.unlink()
    spoil(path)
    with pytest.raises(Unavailable, match=words) as raised:
        credentials.access()
    assert "SECRET" not in str(raised.value)
    if path.is_dir():
        path.rmdir()
    write(path)
    assert credentials.access().headers == {"Authorization": "Bearer SECRET"}


def test_a_kubeconfig_without_a_user_is_anonymous_on_purpose(tmp_path: Path) -> None:
    for nobody in ({"users": [], "contexts": [{"name": "x", "context": {"cluster": "c"}}]}, {"user": {}}):
        assert Credentials(write(tmp_path / "kubeconfig", **nobody)).access().headers == {}


def test_without_a_kubeconfig_anywhere_it_is_said_what_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"it is not set; ~/\.kube/config: there is no such file"):
        connect(None, TIMEOUT_SECONDS)


@pytest.mark.parametrize("process", ["api", "worker", "consumer"])
def test_a_process_with_a_wrong_kubeconfig_ends_with_that_line(process: str, tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text("users: [")
    (tmp_path / "keys").write_text("a-key-of-some-25-characters\n")
    (tmp_path / "keys").chmod(0o600)
    env = {"HEADRACE_KUBECONFIG": str(tmp_path / "kubeconfig"), "HEADRACE_API_KEYS_FILE": str(tmp_path / "keys")}
    argv = [sys.executable, "-m", process]
    done = subprocess.run(
        argv, cwd=workers.ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"HEADRACE_KUBECONFIG: {tmp_path / 'kubeconfig'}: while parsing")
    assert len(done.stderr.splitlines()) == 1
