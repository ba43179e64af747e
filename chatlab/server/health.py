"""What the outside may know of the server: /healthz, /metrics, and that it is going away.

The numbers are kept by whoever does the work; here they have their names.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from chatlab.server.proxies import Proxies
from chatlab.storage.base import RoomLog

__all__ = ["Health", "Metrics"]

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """One server's numbers; their names begin with `chatlab_`.

    Labels take only codes and event names of the contract, never what a client made up: each
    label value is kept for ever.
    """

    def __init__(
        self,
        *,
        sockets: Callable[[], int],
        rooms: Callable[[], int],
        subscriptions: Callable[[], int],
        limits_locally: Callable[[], bool],
    ) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter(
            "chatlab_events", "Events answered", ["event", "code"], registry=self.registry
        )
        self.seconds = Histogram(
            "chatlab_ack_seconds",
            "From an event's arrival to its ack",
            ["event"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.refusals = Counter(
            "chatlab_refusals", "Connections refused", ["code"], registry=self.registry
        )
        self.deliveries = Counter(
            "chatlab_feed_messages", "Stored messages that the feed brought", registry=self.registry
        )
        connected = Gauge("chatlab_sockets", "Sockets accepted", registry=self.registry)
        connected.set_function(sockets)
        hosted = Gauge("chatlab_rooms", "Rooms with a member here", registry=self.registry)
        hosted.set_function(rooms)
        heard = Gauge(
            "chatlab_subscriptions", "Channels that are heard in Redis", registry=self.registry
        )
        heard.set_function(subscriptions)
        local = Gauge(
            "chatlab_limiter_local",
            "1 while Redis is away and users are limited on this server by itself",
            registry=self.registry,
        )
        local.set_function(lambda: float(limits_locally()))
        tasks = Gauge("chatlab_tasks", "Tasks of the event loop", registry=self.registry)
        tasks.set_function(lambda: len(asyncio.all_tasks()))


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
        body = generate_latest(self.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})
