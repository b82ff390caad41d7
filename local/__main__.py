"""`./run up | down | status | demo`: the commands of laptop mode. They only translate."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from local.stack import Options, Stack, StackError, down, is_alive, read_stack_file

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

Data = Annotated[Path, typer.Option("--data", help="Where the stack keeps its data.")]
DEFAULT_DATA = Path(".headrace")


def _say(line: str) -> None:
    print(line, flush=True)


@app.command("up")
def up(
    data: Data = DEFAULT_DATA,
    api_port: int = 8080,
    flower_port: int = 5555,
    kubeconfig: Path | None = None,
    mongodb: str | None = None,
    kafka: str | None = None,
    redis: str | None = None,
) -> None:
    """Starts the whole stack and stays; Ctrl-C stops it. Addresses that are given replace the local servers."""
    content = read_stack_file(data)
    if content and is_alive(content["supervisor_pid"]):
        _say(f"it is up already (pid {content['supervisor_pid']}): {content['api_url']}; ./run down stops it")
        raise typer.Exit(1)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _interrupt(stopping))
    stack = Stack(Options(data, api_port, flower_port, kubeconfig, mongodb, kafka, redis), _say)
    try:
        stack.up()
        _say(f"up: {stack.stack_file} has the addresses; Ctrl-C stops it")
        stack.keep_up(stopping.is_set)
    except StackError as error:
        print(error, file=sys.stderr, flush=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        pass
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        stack.stop()
    _say("stopped; the data stays")


def _interrupt(stopping: threading.Event) -> None:
    """The first time, while it starts as well as later, leads to an orderly stop."""
    stopping.set()
    raise KeyboardInterrupt


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
    """Shows the whole: three jobs by three ways, scaled and stopped with their state."""
    from local.demo import run_demo

    raise typer.Exit(run_demo(keep=keep, data=data))


if __name__ == "__main__":
    app()
