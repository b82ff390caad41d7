"""What is called like a secret: one list of names, for Headrace and for the runner in the image alike.

The image's folder has it, and `headrace/domain/secret_names.py` is a link to it, as to flink_sql.py: the standard
library is all that it may import. It knows no value, no field and no way in.
"""

from __future__ import annotations

import re

LONGEST_NAME = 300
"""Characters of a name that are looked at, from its end."""

_NAMED = re.compile(
    r"\b(?:[a-z]*passw(?:or)?ds?|[a-z]*passphrases?|passcodes?|(?:db|pg|my|mysql|user)pass|pass(?= ?[0-9]*$)|[a-z]*pwd|"
    r"pw|[a-z]{2,5}pw|[a-z]*secrets?|(?:access|api|auth|bearer|bot|id|refresh|session)?tokens?|credentials?|creds?|jaas|"
    r"authorization|bearer|jwt|cookies?|signature|sig|"
    r"(?:access|account|admin|api|auth|client|decryption|deploy|encryption|function|license|master|private|registry|"
    r"secret|service|session|shared|signing|ssh|storage|subscription|webhook) ?keys?)\b"
    r"|\b(?:webhook|sas) ur[il]$"
)
"""In a name in lower case, its words apart (`words_of`)."""

_DOUBTFUL = re.compile(
    r"(?<!primary )(?<!partition )(?<!partitioning )(?<!routing )(?<!public )(?<!sort )(?<!group )(?<!hash )"
    r"(?<!foreign )(?<!row )(?<!message )(?<!join )(?<!cache )(?<!record )(?<!event )\bkeys?$|\bhmac$|\bsas$|\bauth$|"
    r"\bdsn$|\bjdbc(?: ur[il])?$|\b(?:connection|conn) (?:str|string|ur[il])$|\bsalt$|\bpin$|\botp$|\bpem$|\bheaders?$|"
    r"\b(?:database|db|redis|mongo|mongodb|postgres|postgresql|mysql|amqp|rabbitmq|broker|sentry|webhook) ?ur[il]$"
)
"""Names of what may well hold one: keys of all sorts, and addresses that may carry a password."""

_END = re.compile(
    r"\b(?:algorithms?|arns?|audience|backoff|budget|bucket|class|classes|class name|column|counts?|days|dir|directory|"
    r"disabled?|duration|enabled?|encoding|endpoint|expiration|expires|expiry|factory|fields?|files?|format|host|hours|"
    r"index|interval|issuer|len|length|lifetime|limits?|location|manager|max|method|millis|min|minutes|mode|ms|names?|"
    r"optional|parallelism|paths?|per [a-z]+|period|policy|port|position|prefix|providers?|ratio|refs?|reference|"
    r"renewal|required|rotation|scheme|scopes?|seconds|secs|size|strategy|suffix|threshold|timeout|ttl|types?|ur[il]s?|"
    r"validity|version|window)(?: [0-9]+)?$"
)
"""What a name is about where it ends so: the file, the size or the provider of a secret, and not the secret."""

_OTHERS = re.compile(
    r"\b(?:avg|average|bos|cls|completion|context|continuation|end|eos|input|mask|max|min|n|new|next|num|number of|"
    r"output|pad|page|prompt|sep|special|start|stop|total|unk) tokens?\b|\b(?:kubernetes|pull) secrets?$"
)
"""Phrases that speak of other tokens and secrets: a language model's, a page's, Kubernetes' own by their names."""

_ALWAYS = re.compile(r"\b(?:webhook|sas) ur[il]$")
"""Addresses that are secrets themselves."""

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[a-z]+|[0-9]+")


def words_of(name: str) -> str:
    """The words of a name, in lower case with blanks between: db.userPassword-2 is `db user password 2`."""
    return " ".join(_WORD.findall(_HUMP.sub(" ", name[-LONGEST_NAME:]).lower()))


def looks_secret(name: str) -> bool:
    """Whether something of this name holds a secret, as far as a name can say."""
    words = _OTHERS.sub("", words_of(name))
    return bool(_ALWAYS.search(words) or (_NAMED.search(words) and not _END.search(words)))


def may_be_secret(name: str) -> bool:
    """Whether something of this name holds a secret, or may well."""
    return looks_secret(name) or bool(_DOUBTFUL.search(words_of(name)))
