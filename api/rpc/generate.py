"""`python -m api.rpc.generate` makes headrace_pb2.py of headrace.proto. Needs grpcio-tools, which the dev group has."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
PROTO, MADE = "headrace.proto", "headrace_pb2.py"


def generate(folder: Path) -> None:
    """Writes the module into this folder. Raises RuntimeError where the proto is not well formed."""
    import grpc_tools
    from grpc_tools import protoc

    included = Path(grpc_tools.__file__).parent / "_proto"
    words = ["protoc", f"--proto_path={FOLDER}", f"--proto_path={included}", f"--python_out={folder}", PROTO]
    if protoc.main(words) != 0:
        raise RuntimeError(f"protoc cannot read {PROTO}")


if __name__ == "__main__":
    generate(FOLDER)
