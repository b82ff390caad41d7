"""What a laptop's operator leaves behind where it is killed, and what the next one does about it."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.flink_operator.distribution import end_what_is_left


@pytest.fixture
def left(tmp_path: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Processes with nobody to stop them: of two clusters, and of none."""
    folders = {"ours": tmp_path / "orders", "others": tmp_path / "orders-2", "none": None}
    env = {name: {"FLINK_CONF_DIR": str(folder / "conf")} if folder else {} for name, folder in folders.items()}
    started = {name: subprocess.Popen(["sleep", "60"], env={**os.environ, **own}) for name, own in env.items()}
    yield started
    for process in started.values():
        process.kill()
        process.wait(10)


def test_the_processes_of_a_cluster_that_nobody_stopped_are_ended_and_no_others(
    tmp_path: Path, left: dict[str, subprocess.Popen[bytes]]
) -> None:
    end_what_is_left(tmp_path / "orders")
    assert left["ours"].wait(10) == -9
    assert [left[name].poll() for name in ("others", "none")] == [None, None]
