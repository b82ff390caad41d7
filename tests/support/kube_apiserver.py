"""A real kube-apiserver with etcd for tests, from the binaries in KUBEBUILDER_ASSETS (the convention of envtest).

There is no controller manager: nothing collects garbage, schedules pods or makes default service accounts.
It knows nothing of what is tested with it.
"""

import json
import os
import secrets
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local.process import Command, LocalProcess, free_port
from tests.support.missing import missing
from tests.support.patience import PATIENCE, REQUEST_SECONDS
from tests.support.servers import has_started

POWERLESS = "powerless"
CRDS_DIRECTORY = Path(__file__).parent.parent.parent / "local" / "crds"
OLDEST_CRDS = Path(__file__).parent.parent / "data" / "crds-1.10.0"
CRDS: Mapping[str, Path] = {"1.15": CRDS_DIRECTORY, "1.10": OLDEST_CRDS}
"""Of the newest operator that is supported, and of the oldest."""

AUDIT_POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    userGroups: ["system:serviceaccounts"]
  - level: None
"""
START_TIMEOUT_SECONDS = 90.0
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class KubeServer:
    """Where the server listens (HTTPS, its own certificate authority) and the token of a cluster administrator.

    `kubeconfig_path` is the administrator's, `powerless_kubeconfig_path` that of a user who has no right at all.
    """

    url: str
    token: str
    kubeconfig_path: Path
    powerless_kubeconfig_path: Path
    ca_path: Path
    process: LocalProcess
    audit: Path
    etcd_url: str

    def kill(self) -> None:
        """SIGKILL to kube-apiserver; etcd and all that it holds stay."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.stop()

    def start_again(self) -> None:
        """The same server at the same place, ready."""
        self.process.start()
        with _client(self) as client:
            _wait_for(lambda: has_started(self.process) and _is_ready(client), self.process.log)

    def forget_history(self) -> None:
        """etcd keeps no version but the newest of anything, as the API server has it every five minutes."""
        with httpx.Client(base_url=self.etcd_url, timeout=REQUEST_SECONDS, trust_env=False) as etcd:
            everything = {"key": "AA==", "range_end": "AA=="}
            found = etcd.post("/v3/kv/range", json={**everything, "limit": 1}).raise_for_status().json()
            asked = {"revision": found["header"]["revision"], "physical": True}
            etcd.post("/v3/kv/compaction", json=asked).raise_for_status()

    def asked(self) -> list[dict[str, Any]]:
        """What accounts of pods have asked for until now, as the server's audit log has it."""
        lines = self.audit.read_text().splitlines(keepends=True) if self.audit.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]


def kubebuilder_assets() -> Path:
    """The folder of `kube-apiserver` and `etcd`; skips the test where there is none, fails it if no test may skip."""
    folder = os.environ.get("KUBEBUILDER_ASSETS", "")
    if not folder or not (Path(folder) / "kube-apiserver").is_file():
        missing(
            "KUBEBUILDER_ASSETS does not name a folder with kube-apiserver and etcd; set it (setup-envtest use -p path)"
        )
    return Path(folder)


@contextmanager
def running_kube_apiserver(tmp_path: Path, crds: Path | None = CRDS_DIRECTORY) -> Iterator[KubeServer]:
    """Starts etcd and kube-apiserver in `tmp_path`; yields once the CRDs, if any, are served and the accounts exist."""
    assets = kubebuilder_assets()
    etcd_port, peer_port, port = free_port(), free_port(), free_port()
    etcd = LocalProcess(_etcd(assets, tmp_path, etcd_port, peer_port), tmp_path / "etcd.log", tmp_path)
    apiserver = LocalProcess(_apiserver(assets, tmp_path, etcd_port, port), tmp_path / "kube-apiserver.log", tmp_path)
    try:
        etcd.start()
        _wait_for(lambda: has_started(etcd), etcd.log)
        token, powerless_token = secrets.token_hex(16), secrets.token_hex(16)
        _write_credentials(tmp_path, token, powerless_token)
        server = _server(tmp_path, port, token, powerless_token, apiserver, etcd.command.address)
        server.start_again()
        with _client(server) as client:
            if crds is not None:
                install_crds(client, crds, apiserver.log)
            _create_service_accounts(client, apiserver.log)
        yield server
    finally:
        for process in (apiserver, etcd):
            process.stop()


def _etcd(assets: Path, directory: Path, client_port: int, peer_port: int) -> Command:
    client, peer = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
    argv = [
        str(assets / "etcd"),
        f"--data-dir={directory / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
    ]
    return Command("etcd", argv, lambda: _answers(f"{client}/health"), client, port=client_port)


def _apiserver(assets: Path, directory: Path, etcd_port: int, port: int) -> Command:
    (directory / "audit-policy.yaml").write_text(AUDIT_POLICY)
    argv = [
        str(assets / "kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        f"--secure-port={port}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={directory / 'certs'}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={directory / 'sa.pub'}",
        f"--service-account-signing-key-file={directory / 'sa.key'}",
        f"--token-auth-file={directory / 'tokens.csv'}",
        f"--client-ca-file={directory / 'client-ca.crt'}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.96.0.0/16",
        f"--audit-policy-file={directory / 'audit-policy.yaml'}",
        f"--audit-log-path={directory / 'audit.jsonl'}",
    ]
    return Command("kube-apiserver", argv, lambda: True, port=port)


def _write_credentials(directory: Path, token: str, powerless_token: str) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (directory / "sa.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    (directory / "sa.pub").write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    users = f"{token},admin,admin,system:masters\n{powerless_token},{POWERLESS},{POWERLESS}\n"
    (directory / "tokens.csv").write_text(users)
    _write_client_authority(directory)


def _write_client_authority(directory: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (directory / "client-ca.key").write_bytes(_pem(key))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "clients")])
    certificate = _certificate(name, name, key, timedelta(days=1))
    signed = certificate.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    (directory / "client-ca.crt").write_bytes(signed.sign(key, hashes.SHA256()).public_bytes(_PEM))


def client_certificate(directory: Path, user: str, group: str, lifetime: timedelta) -> tuple[str, str]:
    """A certificate, and its key, that the server in this folder takes for this user, as PEM; with a negative
    lifetime one that has ended."""
    authority = x509.load_pem_x509_certificate((directory / "client-ca.crt").read_bytes())
    authority_key = serialization.load_pem_private_key((directory / "client-ca.key").read_bytes(), None)
    assert isinstance(authority_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    names = [(NameOID.ORGANIZATION_NAME, group), (NameOID.COMMON_NAME, user)]
    subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in names])
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    unsigned = _certificate(subject, authority.subject, key, lifetime)
    signed = unsigned.add_extension(usage, critical=False).sign(authority_key, hashes.SHA256())
    return signed.public_bytes(_PEM).decode(), _pem(key).decode()


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    """Begun two days ago."""
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - timedelta(days=2)).not_valid_after(now + lifetime)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _server(
    directory: Path, port: int, token: str, powerless_token: str, process: LocalProcess, etcd_url: str
) -> KubeServer:
    url, ca_path = f"https://127.0.0.1:{port}", directory / "certs" / "apiserver.crt"
    return KubeServer(
        url,
        token,
        _kubeconfig(directory / "kubeconfig", url, ca_path, "admin", token),
        _kubeconfig(directory / "kubeconfig-powerless", url, ca_path, POWERLESS, powerless_token),
        ca_path,
        process,
        directory / "audit.jsonl",
        etcd_url,
    )


def _kubeconfig(path: Path, url: str, ca_path: Path, user: str, token: str) -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority": str(ca_path)}}],
                "users": [{"name": user, "user": {"token": token}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
                "current-context": "test",
            }
        )
    )
    return path


def _client(server: KubeServer) -> httpx.Client:
    # The certificate appears only while the server starts, so it cannot be checked yet.
    headers = {"Authorization": f"Bearer {server.token}"}
    return httpx.Client(base_url=server.url, headers=headers, verify=False, timeout=REQUEST_SECONDS, trust_env=False)


def _wait_for(condition: Any, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS * PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            tail = log.read_text(errors="replace")[-2000:]
            raise TimeoutError(f"not ready after {START_TIMEOUT_SECONDS:.0f} s; the end of {log}:\n{tail}")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").is_success and client.get("/api/v1/namespaces/default").is_success
    except httpx.TransportError:
        return False


def install_crds(client: httpx.Client, crds: Path, log: Path) -> None:
    """Makes them, and returns once they are served."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    definitions = [yaml.safe_load(each.read_text()) for each in sorted(crds.glob("*.yml"))]
    for definition in definitions:
        client.post(path, json=definition).raise_for_status()
    for definition in definitions:
        spec = definition["spec"]
        served = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        _wait_for(lambda served=served: client.get(served).is_success, log)
    for group in {definition["spec"]["group"] for definition in definitions}:
        _wait_for(lambda group=group: _lists_group(client, group), log)


def _lists_group(client: httpx.Client, group: str) -> bool:
    return any(each["name"] == group for each in json.loads(client.get("/apis").content)["groups"])


def _create_service_accounts(client: httpx.Client, log: Path) -> None:
    for name in ("default", "flink"):
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
        path = "/api/v1/namespaces/default/serviceaccounts"
        _wait_for(lambda path=path, account=account: client.post(path, json=account).status_code in (201, 409), log)
