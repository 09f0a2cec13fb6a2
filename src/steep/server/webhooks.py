"""One try to post an alert: to addresses that were looked at just now, without following where the answer leads.

A name may mean another address than it did when the job was taken. So it is looked up here, and the connection goes to what
was found and allowed; TLS and the header Host still speak of the name.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING

from steep import __version__
from steep.corpus.addresses import is_public
from steep.server.delivering import Undelivered

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 10.0

_LATER = frozenset({408, 425, 429})  # of the answers that refuse, those that do not mean it


def open_client() -> httpx.AsyncClient:
    """What posts. It knows nothing of proxies and passwords in the server's surroundings, and keeps no cookies between tries."""
    import httpx

    return httpx.AsyncClient(
        timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
        follow_redirects=False,
        trust_env=False,
        verify=httpx.create_ssl_context(),
        headers={"User-Agent": f"Steep/{__version__}", "Content-Type": "application/json"},
    )


async def post(
    client: httpx.AsyncClient,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    private_too: bool,
    lookups: Executor,
) -> None:
    """Post a body. Returns when the receiver has it, as its status from 200 to 299 says; what else it answers is not read.

    Args:
        client: of `open_client`.
        url: http or https.
        body: what is posted.
        headers: beside those of every request.
        private_too: it may go to an address that is not public.
        lookups: where names are looked up, which may take long.

    Raises:
        Undelivered: it did not arrive, or is not allowed to go there.
    """
    import httpx

    target = httpx.URL(url)
    last: httpx.TransportError | None = None
    for address in await _addresses(target, private_too, lookups):
        request = client.build_request(
            "POST",
            target.copy_with(host=address),
            content=body,
            headers={**headers, "Host": target.netloc.decode("ascii")},
            extensions={"sni_hostname": target.raw_host.decode("ascii")},
        )
        try:
            response = await client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            last = error  # another address may answer
            continue
        except httpx.TransportError as error:
            raise Undelivered(_words(error)) from error
        await response.aclose()
        _judge(response.status_code)
        return
    raise Undelivered(f"{target.host} cannot be reached: {_words(last)}") from last


async def _addresses(target: httpx.URL, private_too: bool, lookups: Executor) -> list[str]:
    """Where a host is, in the order to try; all or none are allowed."""
    port = target.port or (443 if target.scheme == "https" else 80)
    look_up = partial(socket.getaddrinfo, target.host, port, type=socket.SOCK_STREAM)
    try:
        found = await asyncio.get_running_loop().run_in_executor(lookups, look_up)
    except (OSError, UnicodeError) as error:
        raise Undelivered(f"{target.host} is not known here ({error})") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if not private_too and not is_public(address):
            raise Undelivered(f"{target.host} is at {address}, which is no public address", refused=True)
    return addresses


def _judge(status: int) -> None:
    if not 200 <= status < 300:
        raise Undelivered(f"the receiver answered {status}", refused=300 <= status < 500 and status not in _LATER)


def _words(error: Exception | None) -> str:
    return str(error) or type(error).__name__
