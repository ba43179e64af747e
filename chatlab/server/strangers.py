"""Connections that have not sent a request: closed in time, since nobody knows them yet.

aiohttp 3.14.5 gives them as long as it keeps a connection between two requests, so that half a
request holds a descriptor for minutes. What has become a request is the transport's business.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

__all__ = ["close_silent"]


async def close_silent(runner: web.AppRunner, *, within: float) -> None:
    """Close every connection without a whole request after `within` seconds; until cancelled."""
    loop = asyncio.get_running_loop()
    seen: dict[Any, float] = {}
    while True:
        await asyncio.sleep(min(1.0, within / 4))
        now = loop.time()
        connections = runner.server.connections if runner.server is not None else []
        silent = [handler for handler in connections if not handler._request_count]
        seen = {handler: seen.get(handler, now) for handler in silent}
        for handler, since in seen.items():
            if now - since >= within:
                handler.force_close()
