"""`steep up` and `steep down`: a server on this machine, for whoever sits at it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from steep.cli.service.options import HOST, PORT, ColdOption, DataOption, JsonOption, RootOption, SlotsOption

if TYPE_CHECKING:
    import subprocess

    from steep.cli.service.process import ServerProcess


def up(
    data: Path | None = DataOption,
    port: int = typer.Option(PORT, "--port", metavar="PORT", help="Where to listen, on this machine alone."),
    roots: list[Path] = RootOption,
    cpu_slots: int | None = SlotsOption,
    cold: bool = ColdOption,
    detach: bool = typer.Option(False, "--detach", help="Return once it is ready; `steep down` stops it."),
    json: bool = JsonOption,
) -> None:
    """Start the service on this machine: jobs, this machine's GPUs (or its processor), nothing else to install.

    Jobs may read files below your home, below where you stand, and what Steep caches. Ctrl-C stops the server in good order;
    workers go on, and the next `steep up` finds them. Where one is at work already, it is shown.
    """
    from steep.artifacts.cache import cache_directory
    from steep.cli.output import say
    from steep.cli.paths import default_data
    from steep.cli.service import process

    place = (data or default_data()).absolute()
    there = process.find_server(place)
    if there is not None:
        if there.address != f"http://{HOST}:{port}" and port != PORT:
            say(f"--port {port} is not used: the server of this data directory listens at {there.address} already.")
        _tell(place, there.address, fresh=False, json=json)
        return
    process.require_packages()
    address = f"http://{HOST}:{port}"
    with process.starting(place):
        process.require_free_port(HOST, port)
        own = [Path.home(), Path.cwd(), cache_directory().absolute()]  # where `python://` sources are gathered
        allowed = list(dict.fromkeys([*own, *(root.absolute() for root in roots)]))
        flags = {"host": HOST, "port": port, "local_key": True, "root": allowed, "cpu_slots": cpu_slots, "cold": cold}
        server = process.start_server(place, address, process.words(flags))
        try:
            process.wait_until_ready(server, place, address)
        except BaseException:
            server.terminate()
            raise
    _tell(place, address, fresh=True, json=json)
    if not detach:
        _stay(server, place)


def _tell(data: Path, address: str, *, fresh: bool, json: bool) -> None:
    """Where the server is, where things lie, and what to do next."""
    from steep.cli.output import print_json
    from steep.cli.paths import steep_command
    from steep.cli.service.process import log_file
    from steep.client.config import config_file, read_config

    config = config_file()
    known = read_config(config)
    is_known = known is not None and known.server == address
    if json:
        facts = {"server": address, "data": str(data), "config": str(config) if is_known else None}
        print_json(facts | {"log": str(log_file(data)), "started": fresh})
        return
    print(f"Steep is {'ready' if fresh else 'at work already'} at {address}")
    print(f"  data  {data}")
    print(f"  key   {config if is_known else _other_key(data, address)}")
    print(f"  log   {log_file(data)}")
    print(f"Next:  {steep_command()} jobs submit JOB.yaml --watch", flush=True)


def _other_key(data: Path, address: str) -> str:
    return (
        f"{data / 'admin.toml'}; your config names another server, and `steep login {address}` makes it name this one"
    )


def _stay(server: subprocess.Popen[bytes], data: Path) -> None:
    """Wait for the server; Ctrl-C and SIGTERM end it in good order."""
    import signal
    from types import FrameType

    from steep.cli.output import say
    from steep.cli.service.process import ended

    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        server.terminate()

    say("Ctrl-C stops the server; workers go on.")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    server.wait()
    if not asked:
        raise ended(server, data)
    say("Stopped. Jobs are kept; `steep up` goes on with them.")


def down(data: Path | None = DataOption, json: bool = JsonOption) -> None:
    """Stop the server of this machine in good order. Workers go on, and the next `steep up` finds them."""
    from steep.cli.output import print_json
    from steep.cli.paths import default_data
    from steep.cli.service.process import find_server, stop_server

    place = (data or default_data()).absolute()
    there: ServerProcess | None = find_server(place)
    if there is not None:
        stop_server(there)
    if json:
        print_json({"data": str(place), "stopped": there is not None})
    elif there is None:
        print(f"No server is at work on {place}.")
    else:
        print(f"The server at {there.address} is stopped; workers go on.")
