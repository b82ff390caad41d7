"""Exit codes, and the help's words about them. Knows nothing of ours."""

from __future__ import annotations

DONE, FAILURE, USAGE, JOB_FAILED, NOT_FOUND, CONFLICT, ENDED_OTHERWISE = range(7)
TIMED_OUT = 124
INTERRUPTED = 130
READER_LEFT = 141
"""As of what a signal ended: 128 and its number."""

MEANINGS = {
    DONE: "done",
    FAILURE: "failure: the API cannot be reached, or refuses",
    USAGE: "usage: the command or a field of the request is wrong",
    JOB_FAILED: "the job, or its operation, failed",
    NOT_FOUND: "not found",
    CONFLICT: "conflict: the job's state forbids it",
    ENDED_OTHERWISE: "it ended otherwise: the job settled in another phase, the operation gave way to another",
    TIMED_OUT: "the time is over; what was asked goes on",
    INTERRUPTED: "Ctrl-C",
    READER_LEFT: "who read the output has left",
}
HELP = "Exit codes:\n\n\b\n" + "\n".join(f"{code:>5}  {meaning}" for code, meaning in MEANINGS.items())
