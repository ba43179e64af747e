"""What the outside may know of the server: /healthz, /metrics, and that it is going away.

What is counted is metrics.py's subject.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from chatlab.server.metrics import Metrics
from chatlab.server.proxies import Proxies
from chatlab.storage.base import RoomLog

__all__ = ["Health"]


@dataclass(slots=True)
class Health:
    """The two HTTP endpoints. `leaving` is set while the server drains or closes."""

    log: RoomLog
    metrics: Metrics
    proxies: Proxies
    public: bool
    leaving: bool = False
    server: str = ""

    def __post_init__(self) -> None:
        self.server = secrets.token_hex(4)

    async def healthz(self, _request: web.Request) -> web.Response:
        ok = self.log.healthy and not self.leaving
        body = {"ok": ok, "storage": self.log.name, "server": self.server}
        return web.json_response(body, status=200 if ok else 503)

    async def metrics_text(self, request: web.Request) -> web.Response:
        if not self.public and not self.proxies.is_loopback(request):
            raise web.HTTPForbidden(text="metrics are for this machine; see --metrics-public\n")
        headers = {"Content-Type": CONTENT_TYPE_LATEST}
        return web.Response(body=self.metrics.text(), headers=headers)
