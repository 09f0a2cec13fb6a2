"""`steep serve`: the service for a team, as a service manager runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from steep.cli.service.options import HOST, PORT, ColdOption, DataOption, RootOption, SlotsOption


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
    from steep.cli.service.process import SERVER, record_server, require_free_port, require_packages, starting, words

    require_packages()
    place = (data or default_data()).absolute()
    with starting(place):
        require_free_port(host, port)
        record_server(place, os.getpid(), address or f"http://{host}:{port}")
    settings: dict[str, Any] = {
        "database": database,
        "host": host,
        "port": port,
        "address": address,
        "root": [one.absolute() for one in roots],
        "cpu_slots": cpu_slots,
        "cold": cold,
        "gpu_price": gpu_price,
        "currency": currency,
        "artifacts": artifacts,
        "private_urls": private_urls,
        "trust_remote_code": trust_remote_code,
        "new_secrets_key": new_secrets_key,
        "smtp": smtp,
        "mail_from": mail_from,
        "scrub_every": scrub_every,
        "scrub_rate": scrub_rate,
    }
    command = [*SERVER, "--data", str(place), *words(settings)]
    os.execv(command[0], command)
