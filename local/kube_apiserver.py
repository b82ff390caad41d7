"""A real kube-apiserver with etcd, in place of the small Kubernetes API, from the folder KUBEBUILDER_ASSETS names.

There is no controller manager: nothing collects garbage, schedules pods or makes default service accounts, so what
jobs need of these is made here.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from local import private
from local.process import Command
from local.servers import http_answers

CRDS = Path(__file__).parent / "crds"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def etcd(assets: Path, folder: Path, client_port: int, peer_port: int) -> Command:
    """etcd on the loopback, durable in `folder`."""
    client, peer = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
    argv = [
        str(assets / "etcd"),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--log-level=warn",
    ]
    return Command("etcd", argv, lambda: http_answers(f"{client}/health"), client, port=client_port)


def apiserver(
    assets: Path, folder: Path, etcd_port: int, port: int, namespace: str = "default", service_account: str = "flink"
) -> Command:
    """kube-apiserver with RBAC, a token of an administrator and its own certificate, and what jobs need in a
    namespace."""
    token = write_credentials(folder)
    argv = [
        str(assets / "kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        f"--secure-port={port}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={folder / 'certs'}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={folder / 'sa.pub'}",
        f"--service-account-signing-key-file={folder / 'sa.key'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.96.0.0/16",
    ]
    url = f"https://127.0.0.1:{port}"

    def is_set_up() -> bool:
        return _is_set_up(url, token, namespace, service_account)

    return Command("kubernetes", argv, is_set_up, url, ready_timeout_seconds=90, port=port)


def write_credentials(folder: Path) -> str:
    """The signing keys and the administrator's token, made once and kept."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    token_file = folder / "token"
    if not token_file.exists():
        private.write(token_file, secrets.token_hex(16))
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        signing = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        private.write(folder / "sa.key", signing)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (folder / "sa.pub").write_bytes(public)
    token = token_file.read_text()
    private.write(folder / "tokens.csv", f"{token},admin,admin,system:masters\n")
    (folder / "sa.key").chmod(0o600)
    return token


def write_kubeconfig(path: Path, url: str, token: str, certificate: Path | None = None) -> None:
    """A kubeconfig of one cluster and one user, readable by its owner alone."""
    cluster: dict[str, Any] = {"server": url}
    if certificate is not None:
        cluster["certificate-authority"] = str(certificate)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "laptop", "cluster": cluster}],
        "users": [{"name": "laptop", "user": {"token": token}}],
        "contexts": [{"name": "laptop", "context": {"cluster": "laptop", "user": "laptop", "namespace": "default"}}],
        "current-context": "laptop",
    }
    private.write(path, yaml.safe_dump(config))


def _is_set_up(url: str, token: str, namespace: str, service_account: str) -> bool:
    """Ready means: it answers, and Flink's resources, the namespace and its accounts are there. Idempotent."""
    headers = {"Authorization": f"Bearer {token}"}
    try:
        with httpx.Client(base_url=url, headers=headers, verify=False, timeout=5, trust_env=False) as client:  # noqa: S501 - its certificate appears while it starts
            if not (client.get("/readyz").is_success and client.get("/api/v1/namespaces/default").is_success):
                return False
            return _install_crds(client) and _create_accounts(client, namespace, service_account)
    except httpx.HTTPError:
        return False


def _install_crds(client: httpx.Client) -> bool:
    served = True
    for file in sorted(CRDS.glob("*.yml")):
        definition = yaml.safe_load(file.read_text())
        client.post(DEFINITIONS, json=definition)
        spec = definition["spec"]
        path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        served = served and client.get(path).is_success
    return served


def _create_accounts(client: httpx.Client, namespace: str, service_account: str) -> bool:
    client.post("/api/v1/namespaces", json={"metadata": {"name": namespace}})
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    bodies = [{"metadata": {"name": name}} for name in ("default", service_account)]
    return all(client.post(path, json=body).status_code in (201, 409) for body in bodies)
