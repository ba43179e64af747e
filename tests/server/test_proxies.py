"""Where a client comes from, and what limits per address count by."""

from __future__ import annotations

from typing import Any

import pytest

from chatlab.server import ChatServer
from tests.server.peer import running


async def client_of(forwarded: str, **given: Any) -> str:
    """What a server counts a client by that sends this header."""
    seen: list[str] = []

    def prepare(server: ChatServer) -> None:
        @server.use
        async def look(handshake: Any, proceed: Any) -> None:
            seen.append(server._proxies.client(handshake.request))
            await proceed()

    async with (
        running(prepare=prepare, **given) as run,
        run.raw(**{"X-Forwarded-For": forwarded}) as raw,
    ):
        await raw.connect(run.token("alice"))
    return seen[0]


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no address", "127.0.0.1"),
    ],
)
async def test_limits_count_an_ipv6_network_as_one_client(forwarded: str, client: str) -> None:
    assert await client_of(forwarded, trusted_proxy=("127.0.0.1",)) == client


async def test_a_header_of_somebody_who_is_no_trusted_proxy_is_not_believed() -> None:
    assert await client_of("203.0.113.9") == "127.0.0.1"
