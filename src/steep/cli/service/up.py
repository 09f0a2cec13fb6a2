"""`steep up`, `steep down` and `steep serve`: a server on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from steep.cli.service.options import DataOption, JsonOption

if TYPE_CHECKING:
    import subprocess

    from steep.cli.service.process import ServerProcess

HOST = "127.0.0.1"
PORT = 8470
ColdOption = typer.Option(False, "--cold", help="Start workers as new programs: seconds slower, and less memory.")
SlotsOption = typer.Option(None, "--cpu-slots", metavar="NUMBER", help="Jobs on the processor at once.")
RootOption = typer.Option(
    [], "--root", metavar="DIR", help="Jobs may read files of this machine below it; may be given several times."
)


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

    Jobs may read files below your home and below where you stand. Ctrl-C stops the server in good order; workers go on,
    and the next `steep up` finds them. Where one is at work already, it is shown.
    """
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
        allowed = list(dict.fromkeys([Path.home(), Path.cwd(), *(root.absolute() for root in roots)]))
        flags = {"host": HOST, "port": port, "local_key": True, "root": allowed, "cpu_slots": cpu_slots, "cold": cold}
        server = process.start_server(place, address, _words(flags))
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


def serve(
    data: Path | None = DataOption,
    database: str | None = typer.Option(
        None,
        "--database",
        metavar="URL",
        help="postgresql://user:password@host/name; SQLite in the data directory by default.",
    ),
    host: str = typer.Option(HOST, "--host", metavar="ADDRESS", help="Where to listen; 0.0.0.0 is everywhere."),
    port: int = typer.Option(PORT, "--port", metavar="PORT", help="Where to listen."),
    address: str | None = typer.Option(
        None, "--address", metavar="URL", help="Where people and workers reach it, as behind a proxy that speaks TLS."
    ),
    roots: list[Path] = RootOption,
    cpu_slots: int | None = SlotsOption,
    cold: bool = ColdOption,
    gpu_price: list[str] = typer.Option(
        [], "--gpu-price", metavar="MODEL=PRICE", help="Of a GPU-hour, as H100=2.50; `*=1` for all others."
    ),
    currency: str = typer.Option("USD", "--currency", metavar="NAME", help="Of prices and limits."),
    artifacts: str | None = typer.Option(
        None,
        "--artifacts",
        metavar="URL",
        help="Where copies of all jobs' checkpoints go: s3://bucket/prefix, or a directory.",
    ),
    private_urls: bool = typer.Option(
        False, "--private-urls", help="Sources and webhooks may lie at addresses that are not public."
    ),
    trust_remote_code: bool = typer.Option(
        False, "--trust-remote-code", help="Jobs may run code that comes with a model."
    ),
    new_secrets_key: bool = typer.Option(
        False, "--new-secrets-key", help="secrets.key is lost: go on with another one. Secrets must be stored again."
    ),
    smtp: str | None = typer.Option(
        None,
        "--smtp",
        metavar="URL",
        help="Who takes e-mail, as smtps://user@mail.example.org; the password is in STEEP_SMTP_PASSWORD.",
    ),
    mail_from: str | None = typer.Option(
        None, "--mail-from", metavar="ADDRESS", help="In whose name e-mail is sent; the user of --smtp by default."
    ),
    scrub_every: str = typer.Option(
        "7 d", "--scrub-every", metavar="TIME", help="Read each checkpoint back this often."
    ),
    scrub_rate: str = typer.Option(
        "50 MB", "--scrub-rate", metavar="SIZE", help="What that reads a second at most; 0 reads nothing back."
    ),
) -> None:
    """Serve a team: the same service, for a service manager to run, in as many replicas as you like on one PostgreSQL.

    Replicas share the data directory and the machine: runs, uploads and the key of secrets lie there, and workers run there.

    Jobs read uploads and remote sources alone, unless --root allows more. The first admin key lies in admin.toml of the data
    directory. SIGTERM stops it in good order; workers go on.
    """
    import os

    from steep.cli.paths import default_data
    from steep.cli.service.process import SERVER, record_server, require_free_port, require_packages, starting

    require_packages()
    place = (data or default_data()).absolute()
    with starting(place):
        require_free_port(host, port)
        record_server(place, os.getpid(), address or f"http://{host}:{port}")
    flags: dict[str, Any] = {
        "database": database,
        "host": host,
        "port": port,
        "address": address,
        "root": [one.absolute() for one in roots],
    }
    flags |= {"cpu_slots": cpu_slots, "cold": cold, "gpu_price": gpu_price, "currency": currency}
    flags |= {"private_urls": private_urls, "trust_remote_code": trust_remote_code, "new_secrets_key": new_secrets_key}
    flags |= {
        "artifacts": artifacts,
        "smtp": smtp,
        "mail_from": mail_from,
        "scrub_every": scrub_every,
        "scrub_rate": scrub_rate,
    }
    command = [*SERVER, "--data", str(place), *_words(flags)]
    os.execv(command[0], command)


def _words(flags: Mapping[str, Any]) -> list[str]:
    """The command line of these settings: a list repeats its flag, None and False leave it out."""
    words: list[str] = []
    for name, value in flags.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value is not None and value is not False:
            for each in value if isinstance(value, list) else [value]:
                words += [flag, str(each)]
    return words


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
