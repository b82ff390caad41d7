"""Text from outside as it may stand in a log line, a refusal or a terminal. Knows nothing of ours."""

from __future__ import annotations

import re

UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\ud800-\udfff\u2028-\u202e\u2066-\u2069]")
"""What begins a line of its own, moves a terminal's cursor, turns around what is read, or is half a character."""


def printable(text: str) -> str:
    """The text in one line, with such characters written out: a line feed as `\\n`, an escape as `\\x1b`."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
