"""`headrace-migrate`: brings MongoDB to this version's indexes and schema. An entry point of its own."""

from __future__ import annotations

import sys

from headrace import settings as settings_module
from headrace.adapters.mongo import connect
from headrace.errors import HeadraceError


def main() -> int:
    """0 once the schema is there; 1 with one line where it is not. Idempotent."""
    try:
        settings = settings_module.load()
        store = connect(
            settings.mongodb_url.get_secret_value(), settings.mongodb_database, settings.mongodb_timeout_seconds
        )
        version = store.migrate()
    except HeadraceError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"database {settings.mongodb_database} is at schema version {version}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
