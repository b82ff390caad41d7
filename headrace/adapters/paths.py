"""Paths that we ask servers for. A name in them may be a cluster's own words, as the id of a Flink job is.

What is no name raises Unavailable, as an answer that cannot be used does: until it is mended nothing else is read or
written in its place.
"""

from __future__ import annotations

import re

from headrace.errors import Unavailable

PART = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._:@-]+")


def part(name: str) -> str:
    """The name, where it is one part of a path and leads nowhere else. Raises Unavailable."""
    if not PART.fullmatch(name):
        raise Unavailable(f"{name[:100]!r} is no part of a path: it holds what no id has")
    return name


def plain(path: str) -> str:
    """The path, where each of its parts is a name. Raises Unavailable."""
    for name in path.removeprefix("/").removesuffix("/").split("/"):
        part(name)
    return path
