"""Start a server: `python -m steep.server --data DIR`. It stops in good order on SIGTERM and SIGINT; workers go on."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from steep.server.limits import Prices
from steep.server.mail import MailServer
from steep.server.settings import Patience, Scrubbing, ServerSettings
from steep.spec.errors import EXIT_DONE, EXIT_FAILED, InvalidInput, SteepError
from steep.spec.load import is_remote
from steep.spec.units import parse_bytes, parse_seconds

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and serve; returns the exit code."""
    from steep.server.logs import begin_logging

    options = _parser().parse_args(arguments)
    begin_logging(logging.DEBUG if options.verbose else logging.INFO)
    try:
        serve(settings_of(options), local_key=options.local_key)
    except SteepError as error:
        print(error, file=sys.stderr)
        if error.cure:
            print(error.cure, file=sys.stderr)
        return error.exit_code
    except SystemExit:  # uvicorn has said why
        return EXIT_FAILED
    return EXIT_DONE


def serve(settings: ServerSettings, *, local_key: bool = False) -> None:
    """Serve until a signal asks to stop.

    Args:
        settings: how.
        local_key: write an admin's key to the user's config.

    Raises:
        InvalidInput: the data directory or the database cannot be used.
        ServerUnavailable: the database does not answer.
    """
    from steep.server.app import make_app
    from steep.server.localkey import ensure_key
    from steep.server.loops.all import Loops
    from steep.server.service import Service
    from steep.server.tracing import open_traces
    from steep.server.uploads import sweep
    from steep.server.webserver import StoppableServer, web_config

    traces = open_traces(os.environ)
    service = Service.open(settings)
    service.traces = traces
    try:
        key_file = ensure_key(service, for_user=local_key)
        sweep(service)
        loops = Loops(service)
        app = make_app(service, on_start=loops.start, on_end=loops.end)
        log.info("serving %s from %s; an admin's key lies in %s", settings.address, settings.data, key_file)
        StoppableServer(web_config(app, settings), service.let_go).run()
        log.info("stopped; workers go on")
    finally:
        service.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m steep.server", description="Serve Steep's API, and run jobs.")
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="the data directory: runs, files, SQLite, keys")
    add(
        "--database",
        metavar="URL",
        help="postgresql://user:password@host/name; by default SQLite in the data directory",
    )
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=8470, help="port to listen on")
    add("--address", metavar="URL", help="where workers and people reach the server, if not at host and port")
    add(
        "--root",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="jobs may read files of this machine below it",
    )
    add("--private-urls", action="store_true", help="sources and webhooks may lie at addresses that are not public")
    add("--artifacts", metavar="URL", help="where copies of all checkpoints go: s3://bucket/prefix or a directory")
    add("--trust-remote-code", action="store_true", help="jobs may run code that comes with a model")
    add("--new-secrets-key", action="store_true", help="secrets.key is lost: go on with another one")
    add(
        "--cpu-slots", type=int, metavar="N", help="jobs that run on the processor at once; by default one without GPUs"
    )
    add("--cold", action="store_true", help="start each worker as a new program, which takes seconds and spares memory")
    add(
        "--gpu-price",
        action="append",
        default=[],
        metavar="MODEL=PRICE",
        help="of a GPU-hour; `*=PRICE` for all others",
    )
    add("--currency", default="USD", help="of prices and limits")
    add("--smtp", metavar="URL", help="who takes e-mail: smtps://user@host; the password is in STEEP_SMTP_PASSWORD")
    add("--mail-from", metavar="ADDRESS", help="in whose name e-mail is sent; by default the user of --smtp")
    add("--scrub-every", default="7 d", metavar="TIME", help="how often each checkpoint is read back")
    add("--scrub-rate", default="50 MB", metavar="SIZE", help="what that reads a second at most; 0 reads nothing back")
    add("--lease-seconds", type=float, default=60.0, metavar="S", help="silent for longer, a worker is unreachable")
    add("--local-key", action="store_true", help="write an admin's key to the user's config, as `steep up` does")
    add("--verbose", action="store_true", help="say more")
    return parser


def settings_of(options: argparse.Namespace) -> ServerSettings:
    """The settings that a command line asks for.

    Raises:
        InvalidInput: one of them makes no sense.
    """
    return ServerSettings(
        data=options.data.absolute(),
        database=options.database,
        host=options.host,
        port=options.port,
        public_address=options.address,
        roots=tuple(root.absolute() for root in options.root),
        private_urls=options.private_urls,
        trust_remote_code=options.trust_remote_code,
        new_secrets_key=options.new_secrets_key,
        cpu_slots=options.cpu_slots,
        warm=not options.cold,
        artifacts=_artifacts(options.artifacts),
        smtp=_mail_server(options.smtp, options.mail_from),
        prices=_prices(options.gpu_price, options.currency),
        patience=Patience(lease=options.lease_seconds),
        scrub=_scrubbing(options.scrub_every, options.scrub_rate),
    )


def _scrubbing(every: str, rate: str) -> Scrubbing:
    try:
        return Scrubbing(every_seconds=parse_seconds(every), bytes_per_second=parse_bytes(rate))
    except ValueError as error:
        raise InvalidInput(
            str(error), where="--scrub-every or --scrub-rate", cure="Write '7 d' and '50 MB'."
        ) from error


def _artifacts(url: str | None) -> str | None:
    """A store that is none is said when the server starts, not when a job does."""
    if url is None:
        return None
    from steep.artifacts.store import open_store

    open_store(url)
    return url if is_remote(url) else str(Path(url).absolute())


def _mail_server(url: str | None, sender: str | None) -> MailServer | None:
    return None if url is None else MailServer.parse(url, sender, os.environ.get("STEEP_SMTP_PASSWORD"))


def _prices(given: list[str], currency: str) -> Prices:
    by_model: dict[str, float] = {}
    for one in given:
        model, _, price = one.rpartition("=")
        try:
            by_model[model] = float(price)
        except ValueError:
            model = ""
        if not model or by_model[model] < 0:
            raise InvalidInput(f"{one!r} is no price", where="--gpu-price", cure="Write it like H100=2.50.")
    others = by_model.pop("*", 0.0)
    return Prices(by_model, others, currency)
