"""Which images a laptop has: all of them, since each is mapped to this machine's own Flink; but for one whose registry
cannot be anywhere. Pure."""

from __future__ import annotations

NOWHERE = ".invalid"
"""The top-level domain that no name is ever given in (RFC 2606): who wants to see a pull that fails names it."""


def pull_error(image: str) -> str | None:
    """A container runtime's words for why it cannot pull the image, or None where it can."""
    registry, slash, _ = image.partition("/")
    host = registry.partition(":")[0]
    if not slash or not host.endswith(NOWHERE):
        return None
    return (
        f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": failed to do request: '
        f'Head "https://{registry}/v2/": dial tcp: lookup {host}: no such host'
    )
