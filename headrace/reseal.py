"""`headrace-reseal`: seals every secret on record anew with the newest key. An entry point of its own."""

from __future__ import annotations

import sys

from headrace import settings as settings_module
from headrace.adapters.mongo import connect
from headrace.adapters.sealing import read_sealer
from headrace.errors import ConfigurationError, HeadraceError
from headrace.ports import Scope
from headrace.services.reseal import Reseal, Resealed

MOST_NAMED = 20


def main() -> int:
    """0 once everything has the newest key; 1 with a line for each place that no key opens. Idempotent."""
    try:
        done = _reseal()
    except HeadraceError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{done.sealed} secrets are sealed anew, {done.kept} had the newest key already")
    for place in done.unopenable[:MOST_NAMED]:
        print(f"no key of HEADRACE_SEALING_KEYS_FILE opens {place}", file=sys.stderr)
    if len(done.unopenable) > MOST_NAMED:
        print(f"and {len(done.unopenable) - MOST_NAMED} more", file=sys.stderr)
    return 1 if done.unopenable else 0


def _reseal() -> Resealed:
    settings = settings_module.load()
    sealer = read_sealer(settings.sealing_keys_file)
    if sealer is None:
        raise ConfigurationError("HEADRACE_SEALING_KEYS_FILE is not set: there is no key to seal with")
    store = connect(
        settings.mongodb_url.get_secret_value(), settings.mongodb_database, settings.mongodb_timeout_seconds
    )
    try:
        return Reseal(store, sealer, Scope(settings.tenant, settings.cluster, settings.namespace)).run()
    finally:
        store.close()


if __name__ == "__main__":
    raise SystemExit(main())
