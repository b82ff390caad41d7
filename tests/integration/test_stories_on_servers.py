"""Stories of tests/unit/services/test_stories.py that are about servers, word for word, on real ones."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from headrace.adapters.mongo import connect
from tests.support import servers
from tests.support.clusters import CORE, DEPLOYMENTS, Cluster, cluster
from tests.support.served_world import ServedWorld, served_world
from tests.unit.services import test_stories as stories

pytestmark = pytest.mark.timeout(300)

FLINK_JOB = "f" * 32

STORIES: list[Callable[..., None]] = [
    partial(stories.test_a_worker_that_died_after_its_create_and_an_hour_later_a_stop, away_seconds=600),
    stories.test_a_deployment_that_runs_is_not_replaced_by_another_submit,
    stories.test_a_refusal_of_the_store_after_the_create_loses_no_deployment,
    stories.test_a_scale_that_was_written_and_not_recorded_is_taken_back_by_the_next,
    stories.test_a_scale_to_what_the_record_says_wins_over_an_edit_by_hand,
    stories.test_a_withdrawal_that_was_not_recorded_and_a_second_scale,
    stories.test_no_phase_is_missing_in_the_history_where_the_store_was_away_once,
    stories.test_a_stop_beside_a_writer_of_ten_statuses_a_second_lands_at_its_first_tries,
    stories.test_a_dump_that_is_restored_under_a_running_job_ends_well,
    stories.test_two_installations_on_one_database_do_not_see_each_other,
    stories.test_a_finished_jobs_pods_can_be_removed,
    partial(
        stories.test_a_job_that_crashed_as_it_was_suspended_is_stopped_by_what_its_ha_metadata_keep,
        before=f"s3://b/{FLINK_JOB}/chk-10",
        newest=12,
        kept=[f"s3://b/{FLINK_JOB}/chk-12"],
    ),
]


def _name(story: Callable[..., None]) -> str:
    told: Any = story.func if isinstance(story, partial) else story
    return str(told.__name__).removeprefix("test_")


@pytest.fixture(scope="module", params=["local", "real"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mongodb")
    with servers.running(servers.mongodb(folder), folder) as running:
        yield running.command.address


@pytest.fixture
def served(place: Cluster, database: str) -> Iterator[ServedWorld]:
    """Both servers as at the beginning, whatever the story before has left."""
    store = connect(database, f"story-{uuid.uuid4().hex[:8]}", 20)
    store.migrate()
    yield served_world(store, place)
    store.close()
    assert place.http is not None
    for kind in (DEPLOYMENTS, f"{CORE}/configmaps"):
        place.http.delete(kind, params={"labelSelector": "!kubernetes.io/metadata.name"}).raise_for_status()


@pytest.mark.parametrize("story", STORIES, ids=_name)
def test_a_story_ends_well_on_servers_too(
    story: Callable[..., None], served: ServedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = inspect.signature(story).parameters
    story(world=served, **({"monkeypatch": monkeypatch} if "monkeypatch" in wanted else {}))
