"""The one composition root: settings in, services with their adapters out. Called in each process, after any fork."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from headrace.adapters.celery_queue import CeleryQueue, Redis, redis
from headrace.adapters.flink_rest import IN_CLUSTER_URL, Body, RestAnswer, RestJobManager, RestSend, sending
from headrace.adapters.flink_rest.clusters import ClusterRest
from headrace.adapters.kafka import Broker, KafkaLetterBox, Security, broker
from headrace.adapters.kubernetes import OperatorRuntime
from headrace.adapters.kubernetes import connect as connect_kubernetes
from headrace.adapters.mongo import MongoStore
from headrace.adapters.mongo import connect as connect_mongodb
from headrace.adapters.native import Launcher, NativeRuntime
from headrace.adapters.native import connect as connect_native
from headrace.adapters.profiles import read_profiles
from headrace.adapters.prometheus import counted
from headrace.adapters.sealing import read_sealer
from headrace.domain.jobs import NATIVE, OPERATOR
from headrace.domain.manifest import Platform
from headrace.domain.policy import Policy
from headrace.domain.runtime_reports import Process
from headrace.domain.runtimes.native import NativePlan
from headrace.domain.runtimes.operator import OperatorPlan
from headrace.domain.savepoint_settings import SavepointSettings, listed_windows
from headrace.errors import ConfigurationError
from headrace.ports import Clock, FlinkRuntime, JobManager, LetterBox, Scope, Sealer, Store, TaskQueue
from headrace.services.accept import Accept
from headrace.services.adopting import Adopting
from headrace.services.api_keys import ApiKeys
from headrace.services.diagnose import Diagnose
from headrace.services.dispose import Dispose
from headrace.services.execute import Execute
from headrace.services.foresee import Foresee
from headrace.services.handle_record import HandleRecord
from headrace.services.inspect import Inspect
from headrace.services.looks import Looks
from headrace.services.observe import Observe
from headrace.services.prune import Prune, Retention
from headrace.services.records import Freshness, Records
from headrace.services.redeliver import Redeliver
from headrace.services.register import Register
from headrace.services.replay import Replay
from headrace.services.report_runtimes import ReportRuntimes
from headrace.services.resolve import Place, Resolve
from headrace.services.roll_back import RollBack
from headrace.services.runtimes import Installed, Runtimes
from headrace.services.sealing import Sealing
from headrace.services.sync import Sync
from headrace.services.take_savepoints import TakeSavepoints
from headrace.services.take_stock import TakeStock
from headrace.services.triggers import Triggers
from headrace.services.versions import Versions
from headrace.services.waits import Waits
from headrace.settings import Settings, listed


class SystemClock:
    """The machine's time, in UTC."""

    def now(self) -> datetime:
        """The present moment, cut to milliseconds as MongoDB keeps it."""
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)


@dataclass(frozen=True)
class Services:
    """Every use case, ready to be called, and the ports that processes look at for their own health."""

    accept: Accept
    adopting: Adopting
    api_keys: ApiKeys
    register: Register
    foresee: Foresee
    execute: Execute
    sync: Sync
    waits: Waits
    prune: Prune
    take_savepoints: TakeSavepoints
    dispose: Dispose
    redeliver: Redeliver
    handle_record: HandleRecord
    triggers: Triggers
    replay: Replay
    records: Records
    versions: Versions
    freshness: Freshness
    inspect: Inspect
    take_stock: TakeStock
    report_runtimes: ReportRuntimes
    store: Store
    queue: TaskQueue
    runtime: FlinkRuntime
    job_manager: JobManager
    clock: Clock


def services(settings: Settings) -> Services:
    """Connects to what the settings name, lazily: no server is needed for this call to return. Raises
    ConfigurationError."""
    runtime = connect_kubernetes(settings.kubeconfig, settings.kubernetes_timeout_seconds)
    return wired(
        settings,
        store=counted(_mongodb(settings)),
        queue=CeleryQueue(redis_of(settings)),
        runtime=runtime,
        native=_native(settings, runtime),
        job_manager=RestJobManager(_rest_send(settings, runtime)),
        clock=SystemClock(),
        sealer=read_sealer(settings.sealing_keys_file),
        letter_box=KafkaLetterBox(broker_of(settings), settings.dead_letters_topic, settings.kafka_timeout_seconds),
    )


def runtimes_of(settings: Settings) -> Runtimes:
    """The runtimes that the settings name. Raises ConfigurationError."""
    operator = connect_kubernetes(settings.kubeconfig, settings.kubernetes_timeout_seconds)
    return _runtimes(settings, operator, _native(settings, operator))


def _native(settings: Settings, operator: OperatorRuntime) -> NativeRuntime | None:
    """The native runtime where the installation has it. Raises ConfigurationError."""
    if NATIVE not in listed(settings.runtimes):
        return None
    rest = ClusterRest(_rest_send(settings, operator))
    home, timeout_seconds = settings.flink_home, settings.launch_timeout_seconds
    launcher = Launcher(home, settings.java_home, timeout_seconds) if home is not None else None
    return connect_native(settings.kubeconfig, settings.kubernetes_timeout_seconds, rest, launcher)


def _mongodb(settings: Settings) -> MongoStore:
    url, timeout_seconds = settings.mongodb_url.get_secret_value(), settings.mongodb_timeout_seconds
    return connect_mongodb(url, settings.mongodb_database, timeout_seconds)


def redis_of(settings: Settings) -> Redis:
    """Where Redis is. Raises ConfigurationError."""
    return redis(settings.redis_url.get_secret_value(), settings.redis_timeout_seconds, settings.redis_ca_file)


def broker_of(settings: Settings) -> Broker:
    """Where Kafka is, and how one speaks to it. Raises ConfigurationError."""
    security = Security(
        protocol=settings.kafka_security_protocol,
        mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_username,
        password_file=settings.kafka_password_file,
        ca_file=settings.kafka_ca_file,
        certificate_file=settings.kafka_certificate_file,
        key_file=settings.kafka_key_file,
    )
    return broker(settings.kafka_bootstrap_servers, security)


def wired(
    settings: Settings,
    *,
    store: Store,
    queue: TaskQueue,
    runtime: FlinkRuntime,
    native: FlinkRuntime | None = None,
    job_manager: JobManager,
    clock: Clock,
    sealer: Sealer | None,
    letter_box: LetterBox | None = None,
) -> Services:
    """The services over these ports: real ones in a process, in-memory ones in a test."""
    platform = platform_of(settings)
    holder = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
    scope = Scope(settings.tenant, settings.cluster, settings.namespace)
    runtimes = _runtimes(settings, runtime, native)
    records, sealing = Records(store, clock, scope, runtimes.default), Sealing(sealer, store)
    place = _place(settings)
    resolve = Resolve(store, runtimes, platform, place, sealing)
    adopting = Adopting(records, runtimes)
    versions = Versions(records)
    roll_back = RollBack(versions, resolve, runtimes, platform)
    accept = Accept(records, resolve, queue, clock, platform, place, sealing, adopting, roll_back)
    observe = Observe(store, runtimes, platform, settings.failure_grace_seconds)
    looks = Looks(records, runtimes, job_manager, observe)
    triggers = Triggers(store, scope, clock, (settings.kafka_topic, settings.dead_letters_topic))
    handle_record = HandleRecord(accept, triggers, store, settings.tenant, settings.kafka_topic)
    diagnose = Diagnose(runtimes, job_manager, clock)
    savepoints = _savepoints(settings)
    return Services(
        accept=accept,
        adopting=adopting,
        api_keys=ApiKeys(store, settings.tenant, clock),
        register=Register(store, sealing, platform.policy),
        foresee=Foresee(accept, runtimes, looks, observe, clock),
        execute=Execute(records, runtimes, looks, observe, sealing, clock, queue),
        sync=Sync(records, runtimes, queue, observe, diagnose, clock, holder, settings.relist_period_seconds),
        waits=Waits(records, runtimes, job_manager, clock, settings.failure_grace_seconds, holder),
        take_savepoints=TakeSavepoints(records, accept, clock, holder, savepoints),
        dispose=Dispose(records, runtimes, job_manager, clock, holder, savepoints, _notice(settings)),
        prune=Prune(records, accept, diagnose, clock, holder, _retention(settings)),
        redeliver=Redeliver(records, queue, clock, holder),
        handle_record=handle_record,
        triggers=triggers,
        replay=Replay(letter_box, handle_record, triggers),
        records=records,
        versions=versions,
        freshness=Freshness(records, settings.stale_after_seconds),
        inspect=Inspect(records, runtimes, job_manager, settings.follow_limit_seconds),
        take_stock=TakeStock(records, queue),
        report_runtimes=ReportRuntimes(store, scope, runtimes, clock),
        store=store,
        queue=queue,
        runtime=runtime,
        job_manager=job_manager,
        clock=clock,
    )


def _runtimes(settings: Settings, operator: FlinkRuntime, native: FlinkRuntime | None) -> Runtimes:
    """Raises ConfigurationError for a runtime that there is no adapter of."""
    known = {OPERATOR: Installed(operator, OperatorPlan())}
    if native is not None:
        known[NATIVE] = Installed(native, NativePlan(), (Process.WORKER, Process.SYNC, Process.LAUNCHER))
    missing = [name for name in listed(settings.runtimes) if name not in known]
    if missing:
        raise ConfigurationError(f"HEADRACE_RUNTIMES: {missing[0]} is not to be had in this process")
    return Runtimes({name: known[name] for name in listed(settings.runtimes)})


def _retention(settings: Settings) -> Retention:
    return Retention(
        ended_runs=timedelta(hours=settings.ended_runs_kept_hours),
        deleted_jobs=timedelta(days=settings.deleted_jobs_kept_days),
    )


def _notice(settings: Settings) -> timedelta:
    return timedelta(seconds=settings.savepoint_disposal_notice_seconds)


def _savepoints(settings: Settings) -> SavepointSettings:
    """Raises ConfigurationError where a blackout is no time of the day."""
    try:
        blackout = listed_windows(listed(settings.savepoint_blackout))
    except ValueError as error:
        raise ConfigurationError(f"HEADRACE_SAVEPOINT_BLACKOUT: {error}") from error
    return SavepointSettings(
        every_minutes=settings.savepoint_every_minutes,
        blackout=blackout,
        kept=settings.savepoints_kept,
        kept_days=settings.savepoints_kept_days,
    )


def platform_of(settings: Settings) -> Platform:
    """What the installation gives every job."""
    return Platform(
        image=settings.flink_image,
        flink_version=settings.flink_version,
        state_location=settings.flink_state_location,
        state_volume=settings.state_volume,
        service_account=settings.flink_service_account,
        policy=policy_of(settings),
        max_artifact_bytes=settings.flink_max_artifact_bytes,
        profiles=read_profiles(settings.resource_profiles_file),
    )


def policy_of(settings: Settings) -> Policy:
    """What the settings' lists allow, and what is the installation's own."""
    kind, _, volume = settings.state_volume.partition(":")
    return Policy(
        hosts=tuple(host.lower() for host in listed(settings.flink_allowed_hosts)),
        images=(settings.flink_image, *listed(settings.allowed_images)),
        service_accounts=(settings.flink_service_account, *listed(settings.allowed_service_accounts)),
        secrets=listed(settings.allowed_secrets),
        config_maps=listed(settings.allowed_config_maps),
        claims=(*([volume] if kind == "pvc" else []), *listed(settings.allowed_claims)),
        host_paths=(*([volume] if kind == "hostPath" else []), *listed(settings.allowed_host_paths)),
        annotations=listed(settings.allowed_annotations),
        tolerations=listed(settings.allowed_tolerations),
        priority_classes=listed(settings.allowed_priority_classes),
        flink_configuration=listed(settings.allowed_flink_configuration),
    )


def _rest_send(settings: Settings, runtime: OperatorRuntime) -> RestSend:
    """The way to JobManagers: the address that is set, else by DNS, else (outside of the cluster) the API server."""

    def through_the_api_server(method: str, namespace: str, name: str, path: str, body: Body) -> RestAnswer:
        answer = runtime.ask_job_manager(method, namespace, name, path, body)
        return RestAnswer(answer.status, answer.body)

    if settings.flink_rest_url or settings.kubeconfig is None:
        return sending(settings.flink_rest_url or IN_CLUSTER_URL, settings.flink_rest_timeout_seconds)
    return through_the_api_server


def _place(settings: Settings) -> Place:
    return Place(settings.cluster, settings.namespace, settings.operation_deadline_seconds)
