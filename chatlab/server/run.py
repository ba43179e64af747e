"""Runs a chat server in this process until it is told to stop.

SIGTERM and SIGINT close it as the contract says: no new connection, what is in hand is acked, the
clients' transports are closed so that they return by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys

from aiohttp import web

from chatlab.errors import SettingsError
from chatlab.server import logs
from chatlab.server.app import ChatServer
from chatlab.server.strangers import close_silent
from chatlab.settings import Settings

__all__ = ["serve"]

log = logging.getLogger(__name__)

CLOSE_CONNECTIONS_SECONDS = 0.2

IDLE_SECONDS = 180.0
"""For which a connection is kept for another request: longer than balancers keep theirs (Caddy:
120 s), or they would send requests into closed ones. aiohttp's own default is an hour."""

COLLECT_AFTER = (10_000, 20, 50)
"""New objects after which the garbage collector looks at the youngest, and how many such looks make
one at the older ones, then at all. It costs no throughput either way; pauses are fewer."""

REST_OF_BODY_SECONDS = 1.0
"""For which the rest of a request that is answered already is read and thrown away."""


def serve(settings: Settings, *, show_secret: bool = False) -> None:
    """Serve until SIGTERM or SIGINT. The first line on stdout says where, once it accepts.

    `show_secret` prints the secret that `--dev` made. Raises `SettingsError` with a sentence when
    the port or the storage cannot be used.
    """
    logs.lighten()
    logs.set_up(settings.log_level, settings.log_format, settings.log_lines)
    with _loop_runner() as runner:
        runner.run(_serve(settings, show_secret=show_secret))


def _loop_runner() -> asyncio.Runner:
    try:
        import uvloop
    except ImportError:  # optional, and not made for Windows
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def _serve(settings: Settings, *, show_secret: bool) -> None:
    server = ChatServer(settings)
    # The server closes its sockets itself; aiohttp's own wait is for what is left then.
    runner = web.AppRunner(
        server.app(),
        handle_signals=False,
        access_log=None,
        shutdown_timeout=CLOSE_CONNECTIONS_SECONDS,
        keepalive_timeout=IDLE_SECONDS,
        lingering_time=REST_OF_BODY_SECONDS,
    )
    await runner.setup()
    watch = asyncio.create_task(close_silent(runner, within=settings.connect_timeout))
    try:
        stop = _stop_on_signal()
        site = web.TCPSite(runner, settings.host, settings.port)
        try:
            await site.start()
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {settings.host} port {settings.port}: {error.strerror}"
            ) from None
        _spare_the_collector()
        _say_where(runner, settings, show_secret=show_secret)
        await stop.wait()
        log.info("stopping")
        await server.drain()
        # Connections that are there stay for the last words: a client may be between two polls.
        await site.stop()
        await server.shut_down()
    finally:
        watch.cancel()
        await runner.cleanup()


def _spare_the_collector() -> None:
    """Let the garbage collector look seldom, and never at what is there before anybody connects.

    Nearly everything that serving makes ends without it. While it looks nobody is served, and the
    libraries' own seventy thousand objects would be 25 ms and more of each full look.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def _say_where(runner: web.AppRunner, settings: Settings, *, show_secret: bool) -> None:
    host, port = runner.addresses[0][:2]
    shown = f"[{host}]" if ":" in host else host
    sys.stdout.write(f"listening on http://{shown}:{port}\n")
    if show_secret:
        sys.stdout.write(f"development secret: CHATLAB_JWT_SECRET={settings.jwt_secret}\n")
    sys.stdout.flush()


def _stop_on_signal() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    return stop
