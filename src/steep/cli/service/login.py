"""`steep login`: remember a server and the key for it."""

from __future__ import annotations

import typer

from steep.cli.service.options import JsonOption


def login(
    server: str = typer.Argument(metavar="SERVER", help="Its address, such as https://steep.example.org."),
    from_stdin: bool = typer.Option(False, "--key-stdin", help="Read the key from standard input instead of asking."),
    json: bool = JsonOption,
) -> None:
    """Remember a server and the key for it, once the server has taken the key. Only you may read the file it goes into."""
    from steep.cli.output import print_json
    from steep.cli.service.asking import secret
    from steep.cli.service.connect import PATIENCE_SECONDS, require_listening
    from steep.client.client import Client
    from steep.client.config import Settings, config_file, find_settings, write_config

    require_listening(find_settings(server, "-").server)  # an address that is none is said before anybody types a key
    key = secret("Key", from_stdin=from_stdin, option="--key-stdin")
    with Client(server, key, patience_seconds=PATIENCE_SECONDS) as client:
        view, address = client.status(), client.server
    place = config_file()
    write_config(place, Settings(address, key))
    if json:
        print_json({"server": address, "version": view.version, "config": str(place)})
    else:
        print(f"The key is good. {address} (Steep {view.version}) is remembered in {place}.")
