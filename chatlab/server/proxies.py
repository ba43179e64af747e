"""Where a request really comes from, when proxies stand in between.

`X-Forwarded-*` headers are believed only from peers that the operator has listed: anybody can
send them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from aiohttp import web

__all__ = ["Proxies"]


class Proxies:
    """`trusted` are addresses or networks; `origins` those allowed besides the server's own."""

    def __init__(self, trusted: Sequence[str], origins: Sequence[str]) -> None:
        self._trusted = [ipaddress.ip_network(network, strict=False) for network in trusted]
        self._origins = {origin.rstrip("/").lower() for origin in origins}

    def address(self, request: web.Request) -> str:
        """The client's address: the last one in the chain that is not a trusted proxy."""
        address = request.remote or ""
        if not self._trusted or not self._trusts(address):
            return address
        chain = ",".join(request.headers.getall("X-Forwarded-For", []))
        for hop in reversed([hop.strip() for hop in chain.split(",") if hop.strip()]):
            if not _is_address(hop):
                break
            address = hop
            if not self._trusts(hop):
                break
        return address

    def client(self, request: web.Request) -> str:
        """What limits per address count by: the address, of IPv6 its network of 64 bits.

        Whoever has one IPv6 address has the 2**64 of its network (RFC 6177), and would be a new
        client with each.
        """
        address = self.address(request)
        if ":" not in address or not _is_address(address):
            return address
        parsed = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(parsed, "ipv4_mapped", None)
        return str(mapped or ipaddress.ip_network((parsed, 64), strict=False))

    def allows_origin(self, request: web.Request, origin: str) -> bool:
        """Whether a browser's page of `origin` may talk to this server."""
        origin = origin.lower()
        if "*" in self._origins or origin in self._origins:
            return True
        return self.is_own_origin(request, origin)

    def is_own_origin(self, request: web.Request, origin: str) -> bool:
        """Whether `origin` is where this server itself is reached."""
        return origin.lower() == self._own_origin(request)

    def is_loopback(self, request: web.Request) -> bool:
        """Whether the request comes from this machine, and not through a proxy on it."""
        forwarded = "X-Forwarded-For" in request.headers
        address = self.address(request)
        return (
            _is_address(address)
            and ipaddress.ip_address(address).is_loopback
            and (not forwarded or self._trusts(request.remote or ""))
        )

    def _own_origin(self, request: web.Request) -> str:
        scheme, host = request.scheme, request.host
        if self._trusts(request.remote or ""):
            scheme = request.headers.get("X-Forwarded-Proto", scheme).split(",")[0].strip()
            host = request.headers.get("X-Forwarded-Host", host).split(",")[0].strip()
        return f"{scheme}://{host}".lower()

    def _trusts(self, address: str) -> bool:
        if not _is_address(address):
            return False
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in self._trusted)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
