"""The stories' world on servers: the same services and the same hand, over MongoDB's wire and a Kubernetes API."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from headrace.adapters.mongo import MongoStore
from headrace.bootstrap import wired
from headrace.ports import WatchEvent
from headrace.settings import Settings
from headrace.testing import FixedClock, InMemoryJobManager, InMemoryQueue, ReversingSealer
from tests.support.clusters import DEPLOYMENTS, Cluster
from tests.support.world import World


class Port:
    """A real port whose methods a story may take the place of, as it does with one in memory."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class ServedRuntime(Port):
    """A Kubernetes API, and the operator's hand in it. What happens is listed: no story waits for a watch."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster.runtime)
        self._cluster = cluster

    def watch(self, namespace: str, resource_version: str, timeout_seconds: int) -> Iterator[WatchEvent]:
        """See ports.FlinkRuntime."""
        return iter(())

    def set_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Writes the whole status, as the operator does."""
        self.put(name, lambda whole: whole.update(status=dict(status)), "/status")

    def put_config_map(self, namespace: str, name: str, data: Mapping[str, str]) -> None:
        """Makes a ConfigMap, as Flink does."""
        self._cluster.put_config_map(name, data)

    def put(self, name: str, change: Callable[[dict[str, Any]], object], part: str = "") -> None:
        """Reads it, changes it, and puts it back."""
        http = self._cluster.http
        assert http is not None
        whole = http.get(f"{DEPLOYMENTS}/{name}").raise_for_status().json()
        change(whole)
        http.put(f"{DEPLOYMENTS}/{name}{part}", json=whole).raise_for_status()


class ServedWorld(World):
    """See World. Every sync is a full list."""

    def sync(self) -> None:
        """See World."""
        self.services.sync._listed_at = None
        super().sync()

    def edit(self, change: Callable[[dict[str, Any]], object], job_id: str = "orders") -> None:
        """See World."""
        runtime: Any = self.runtime
        runtime.put(job_id, change)

    def saved(self) -> list[str]:
        """See World."""
        found = self._database().savepoints.find({}, sort=[("at", 1), ("_id", 1)])
        return [each["path"] for each in found]

    def dump(self) -> dict[str, Any]:
        """See World."""
        database = self._database()
        return {name: list(database[name].find()) for name in database.list_collection_names() if name != "leases"}

    def restore(self, dump: dict[str, Any]) -> None:
        """See World."""
        for name, documents in dump.items():
            self._database()[name].delete_many({})
            if documents:
                self._database()[name].insert_many(documents)

    def _database(self) -> Any:
        store: Any = self.store
        return store._db


def served_world(store: MongoStore, cluster: Cluster) -> ServedWorld:
    """A world over these servers, with a clock and JobManagers that a story holds."""
    clock, queue, job_manager = FixedClock(), InMemoryQueue(), InMemoryJobManager()
    ports: dict[str, Any] = {"store": Port(store), "runtime": ServedRuntime(cluster)}
    services = wired(
        Settings(flink_allowed_hosts="files.example.com", _env_file=None),
        **ports,
        queue=queue,
        job_manager=job_manager,
        clock=clock,
        sealer=ReversingSealer(),
    )
    return ServedWorld(services=services, queue=queue, job_manager=job_manager, clock=clock, **ports)
