"""What a process says of its settings holds no credentials, however a URL carries them."""

from __future__ import annotations

import pytest

from headrace.errors import ConfigurationError
from headrace.settings import Settings, load

CANARY = "canary-5b2e"
URLS = [
    f"mongodb://app:{CANARY}@db-1,db-2:27017/headrace?replicaSet=a",
    f"mongodb://app:p@ss{CANARY}@db/headrace",
    f"mongodb://db/headrace?tlsCertificateKeyFilePassword={CANARY}",
    f"mongodb://db/?authMechanismProperties=AWS_SESSION_TOKEN:{CANARY}",
    f"redis://:{CANARY}@cache:6379/0",
    f"rediss://cache:6379/0?password={CANARY}",
    f"app:{CANARY}@db:27017/headrace",
    f"db:27017/headrace?password={CANARY}",
    f"s3://key:{CANARY}@bucket/flink",
    f"https://bucket/flink#{CANARY}",
]


@pytest.mark.parametrize("url", URLS)
def test_the_start_line_holds_no_credentials(url: str) -> None:
    settings = Settings(
        mongodb_url=url, redis_url=url, kafka_bootstrap_servers=url, flink_state_location=url, _env_file=None
    )
    said = settings.described()
    assert CANARY not in repr(said)
    host = "bucket" if "bucket" in url else "cache" if "cache" in url else "db"
    assert all(host in said[name] for name in ("mongodb", "redis", "kafka", "state"))


@pytest.mark.parametrize(
    "name",
    [
        *("deleted_jobs_kept_days", "ended_runs_kept_hours", "savepoints_kept", "savepoints_kept_days"),
        "savepoint_disposal_notice_seconds",
    ],
)
def test_a_time_that_no_calendar_has_is_refused_at_the_start_by_its_name(name: str) -> None:
    """Somebody means for ever; every round would fail over it."""
    variable = f"HEADRACE_{name.upper()}"
    with pytest.raises(ConfigurationError, match=variable):
        load({variable: "99999999"})
