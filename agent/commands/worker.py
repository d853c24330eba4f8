"""`anyloom worker`: this machine runs experts for front ends elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...core.errors import InputError
from ...core.settings import load_settings


@click.command()
@click.argument("address", required=False, metavar="[HOST:PORT]")
@click.option("--head", is_flag=True, help="Begin a cluster here instead of joining one.")
@click.option("--host", metavar="IP", default="", help="This machine's address, when it has several.")
@click.option("--port", type=click.IntRange(1, 65535), default=6379, show_default=True, help="Of the head.")
@click.option("--client-port", type=click.IntRange(1, 65535), default=10001, show_default=True, help="For ray://.")
@click.option("--cpus", type=click.FloatRange(0), help="Processors to offer; all by default.")
@click.option("--gpus", type=click.FloatRange(0), help="GPUs to offer; all by default.")
@click.option("--memory", metavar="SIZE", help="Memory for experts, such as 4GiB; most of it by default.")
@click.option("--object-memory", metavar="SIZE", help="Memory for artifacts on their way.")
@click.option("--redis", metavar="URL", default="", help="Where a head keeps its state, to survive its own death.")
@click.option("--folder", type=click.Path(path_type=Path), help="For Ray's own files (head only).")
@click.option("--check", is_flag=True, help="Only say whether this machine is part of the cluster.")
def worker(
    address: str | None, head: bool, host: str, port: int, client_port: int, cpus: float | None, gpus: float | None,
    memory: str | None, object_memory: str | None, redis: str, folder: Path | None, check: bool,
) -> int:  # fmt: skip
    """Run experts on this machine for front ends elsewhere (--ray)."""
    from ..worker import Worker, needs_ray, part_of

    needs_ray()
    if check:
        why = part_of(address or f"{host or '127.0.0.1'}:{port}", host)
        click.echo(f"Not working: {why}." if why else "Working.", err=bool(why))
        return 1 if why else 0
    if head == bool(address):
        raise InputError("Say which cluster to join (anyloom worker HOST:6379), or --head to begin one.")
    if redis and not head:
        raise InputError("Only a head keeps state in Redis; leave out --redis.")
    sizes: dict[str, Any] = {"memory": _size(memory), "object_memory": _size(object_memory)}
    machine: dict[str, Any] = {"host": host, "cpus": cpus, "gpus": gpus, **sizes}
    if head:
        made = Worker.head(port, client_port, redis, folder=folder, **machine)
        click.echo(f"Heading a cluster: workers join {host or 'this machine'}:{port}. Ctrl-C ends it.", err=True)
    else:
        made = Worker.joining(str(address), **machine)
        click.echo(f"Working for {address}. Ctrl-C ends it.", err=True)
    made.run(lambda text: click.echo(text, err=True))
    return 0


def _size(text: str | None) -> int | None:
    return None if text is None else load_settings({"memory": text}, {}).memory


COMMANDS = (worker,)
