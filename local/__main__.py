"""`./run up | down | status | demo`: the commands of laptop mode. They only translate."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from local.job_settings import (
    ALLOWED_HOSTS,
    FLINK_VERSION,
    IMAGE,
    NAMESPACE,
    SERVICE_ACCOUNT,
    STATE_LOCATION,
    STATE_VOLUME,
)
from local.private import PRIVATE
from local.stack import Options, Stack, StackError, Stopping, down, is_alive, read_stack_file

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

Data = Annotated[Path, typer.Option("--data", envvar="HEADRACE_DATA", help="Where the stack keeps its data.")]
DEFAULT_DATA = Path(".headrace")
OWN, FOR_JOBS = "Instead of the laptop's own servers", "What jobs get"


def _said(variable: str, words: str) -> Any:
    return typer.Option(envvar=variable, help=words, rich_help_panel=FOR_JOBS)


def _swapped(words: str) -> Any:
    return typer.Option(help=words, rich_help_panel=OWN)


Port = Annotated[int, typer.Option(envvar="HEADRACE_API_PORT", help="Where our API listens.")]
FlowerPort = Annotated[int, typer.Option(envvar="HEADRACE_FLOWER_PORT", help="Where Flower listens.")]
Kubeconfig = Annotated[Path | None, _swapped("A kubeconfig of a cluster with the Flink Kubernetes Operator.")]
MongoDB = Annotated[str | None, _swapped("A MongoDB, by its URL.")]
Kafka = Annotated[str | None, _swapped("A Kafka, by host:port of its brokers, with commas.")]
Redis = Annotated[str | None, _swapped("A Redis, by its URL.")]
Namespace = Annotated[str | None, _said(NAMESPACE, "The namespace that deployments go to.")]
Image = Annotated[str | None, _said(IMAGE, "An image made by flink_app/Dockerfile.")]
FlinkVersion = Annotated[str | None, _said(FLINK_VERSION, "The image's Flink, as the CRD writes it: v2_2.")]
StateLocation = Annotated[str | None, _said(STATE_LOCATION, "A URI for checkpoints, savepoints and output.")]
StateVolume = Annotated[str | None, _said(STATE_VOLUME, "pvc:claim or hostPath:/dir, for a file:// location.")]
ServiceAccount = Annotated[str | None, _said(SERVICE_ACCOUNT, "The account of Flink's pods.")]
AllowedHosts = Annotated[str | None, _said(ALLOWED_HOSTS, "Where programs may come from, with commas.")]


def _say(line: str) -> None:
    print(line, flush=True)


@app.callback()
def privately() -> None:
    """Headrace on a laptop: the whole stack as local processes."""
    os.umask(PRIVATE)


@app.command("up")
def up(
    data: Data = DEFAULT_DATA,
    api_port: Port = 8080,
    flower_port: FlowerPort = 5555,
    kubeconfig: Kubeconfig = None,
    mongodb: MongoDB = None,
    kafka: Kafka = None,
    redis: Redis = None,
    namespace: Namespace = None,
    image: Image = None,
    flink_version: FlinkVersion = None,
    state_location: StateLocation = None,
    state_volume: StateVolume = None,
    service_account: ServiceAccount = None,
    allowed_hosts: AllowedHosts = None,
) -> None:
    """Starts the whole stack and stays; Ctrl-C stops it."""
    said = {
        NAMESPACE: namespace,
        IMAGE: image,
        FLINK_VERSION: flink_version,
        STATE_LOCATION: state_location,
        STATE_VOLUME: state_volume,
        SERVICE_ACCOUNT: service_account,
        ALLOWED_HOSTS: allowed_hosts,
    }
    for_jobs = {variable: value for variable, value in said.items() if value is not None}
    _run(Options(data, api_port, flower_port, kubeconfig, mongodb, kafka, redis, for_jobs))


def _run(options: Options) -> None:
    content = read_stack_file(options.data)
    if content and is_alive(content["supervisor_pid"]):
        _say(f"it is up already (pid {content['supervisor_pid']}): {content['api_url']}; ./run down stops it")
        raise typer.Exit(1)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    stack = Stack(options, _say, stopping.is_set)
    try:
        stack.up()
        _say(f"up: {stack.stack_file} has the addresses; Ctrl-C stops it")
        if options.data != DEFAULT_DATA:
            _say(f"    ./run headrace --data {options.data} list (or HEADRACE_DATA) reaches it")
        stack.keep_up()
    except StackError as error:
        print(error, file=sys.stderr, flush=True)
        raise typer.Exit(1) from error
    except Stopping:
        pass
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        stack.stop()
    _say("stopped; the data stays")


@app.command("down")
def stop(data: Data = DEFAULT_DATA, erase: bool = False) -> None:
    """Stops the stack and keeps its data; --erase removes that too."""
    try:
        _say(down(data, erase))
    except StackError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error


@app.command()
def status(data: Data = DEFAULT_DATA) -> None:
    """A line a process; exits with 1 where the stack is not wholly up."""
    content = read_stack_file(data)
    if content is None:
        print("no stack was ever up here; ./run up starts one", file=sys.stderr)
        raise typer.Exit(1)
    processes = content["processes"]
    assert isinstance(processes, dict)  # noqa: S101 - we wrote it
    alive = {name: is_alive(entry["pid"]) for name, entry in processes.items()}
    for name, entry in processes.items():
        _say(f"  {name:<15} {'up  ' if alive[name] else 'down'} pid {entry['pid']:<8} {entry['log']}")
    if not alive or not all(alive.values()):
        print("not up; ./run up starts it", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def demo(keep: bool = False, data: Path | None = None) -> None:
    """Shows the whole on the laptop's own cluster: three jobs by three ways, scaled and stopped with their state."""
    from local.demo import run_demo

    for variable in [name for name in os.environ if name.startswith("HEADRACE_")]:
        del os.environ[variable]  # what is set for somebody's installation is no part of the demo
    raise typer.Exit(run_demo(keep=keep, data=data))


if __name__ == "__main__":
    app(prog_name="./run")
