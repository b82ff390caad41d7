"""Runs the local Kubernetes API as a process until SIGTERM or SIGINT."""

import argparse
import signal
import sys
import threading
from pathlib import Path

from local.kubernetes_api.server import LocalKubernetesApi


def main() -> None:
    """Prints one line with the address once it listens."""
    arguments = _arguments()
    token = arguments.token_file.read_text().strip() if arguments.token_file else None
    stopping = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stopping.set())
    with LocalKubernetesApi(arguments.data_dir, port=arguments.port, token=token) as server:
        if arguments.kubeconfig:
            server.write_kubeconfig(arguments.kubeconfig)
        if arguments.kubectl_kubeconfig:
            server.write_kubectl_kubeconfig(arguments.kubectl_kubeconfig)
        sys.stdout.write(f"kubernetes-api listens on {server.url}, data in {arguments.data_dir}\n")
        sys.stdout.flush()
        stopping.wait()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.kubernetes_api", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--token-file", type=Path, help="the bearer token to ask for; without it everyone may do all")
    parser.add_argument("--kubeconfig", type=Path, help="write a kubeconfig here")
    parser.add_argument("--kubectl-kubeconfig", type=Path, help="write one for kubectl here (token in the URL)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
