"""Addresses on the internet: which of them are public, and how to read a URL that leads to such ones alone, whatever it redirects to.

A service checks URLs before it takes a job. Names may mean another address by the time that they are read, and answers may lead
elsewhere; so where a service wants it, each connection is made to an address that was looked at for it.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import socket
import ssl
import urllib.request
from typing import Any

PUBLIC_ONLY = "STEEP_PUBLIC_ADDRESSES_ONLY"
"""Variable of a worker's environment: it reads URLs at public addresses and no others."""


def is_public(address: str) -> bool:
    """Whether an IP address is one that everybody on the internet reaches; mapped ones count as what they stand for."""
    one = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(one, ipaddress.IPv6Address):
        inner = one.ipv4_mapped or one.sixtofour or (one.teredo[1] if one.teredo else None)
        if inner is not None:
            one = inner
        elif one in ipaddress.ip_network("64:ff9b::/96"):
            one = ipaddress.ip_address(int(one) & 0xFFFFFFFF)
    return one.is_global and not one.is_multicast


def open_url(request: urllib.request.Request, timeout_seconds: float) -> Any:
    """The answer to a request.

    Raises:
        OSError: there is none; or it would come from an address that is not public, and the environment allows no other.
    """
    if not os.environ.get(PUBLIC_ONLY):
        return urllib.request.urlopen(request, timeout=timeout_seconds)
    return _public_opener().open(request, timeout=timeout_seconds)


def _public_opener() -> urllib.request.OpenerDirector:
    """Knows http and https alone: `build_opener` follows answers to ftp too, where nothing looks at addresses."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _PublicHTTP(),
        _PublicHTTPS(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


class _PublicHTTP(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_public(http.client.HTTPConnection, request), request)


class _PublicHTTPS(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        kind = _public(http.client.HTTPSConnection, request)
        return self.do_open(kind, request, context=ssl.create_default_context())


def _public(kind: type[http.client.HTTPConnection], request: urllib.request.Request) -> Any:
    """Makes connections of a kind that reach public addresses alone.

    A request that goes through a proxy of this machine's environment is left to it: the proxy guards instead.
    """
    if request.has_proxy() or request._tunnel_host:  # type: ignore[attr-defined] # https goes through a tunnel
        return kind

    def make(host: str, **options: Any) -> http.client.HTTPConnection:
        connection = kind(host, **options)
        connection._create_connection = _connect  # type: ignore[attr-defined] # what http.client itself calls
        return connection

    return make


def _connect(address: tuple[str, int], timeout: Any = None, source_address: Any = None) -> socket.socket:
    """A connection to the very address that was looked at."""
    host, port = address
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for one in found:
        if not is_public(one):
            raise OSError(f"{host} is at {one}, which is no public address, and jobs may read no other")
    return socket.create_connection((found[0], port), timeout, source_address)
