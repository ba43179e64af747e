"""`chatlab demo`: the stage from its first line to its last, on this machine.

It parses, starts, prints where the stage is, and ends everything at Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import functools
import importlib.util
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from chatlab.errors import SettingsError
from chatlab.lab.balancer import find_balancer
from chatlab.lab.valkey import find_valkey
from chatlab.settings import options
from chatlab.stage.control import make_control
from chatlab.stage.entrance import Entrance
from chatlab.stage.guard import Guard
from chatlab.stage.hub import Hub
from chatlab.stage.join import make_outside
from chatlab.stage.pages import add_chat_page
from chatlab.stage.stage import Stage
from chatlab.stage.world import ROOM

__all__ = ["PORT", "main"]

PORT: Final = 3200
_TRIES: Final = 50
_ENDS: Final = ("SIGINT", "SIGTERM", "SIGHUP")


def main(arguments: Sequence[str], prog: str = "chatlab demo") -> int:
    """Run the stage until Ctrl-C. Raises `SettingsError` with a sentence where it cannot start."""
    parser = argparse.ArgumentParser(
        prog=prog, description="An instructor's stage: a chat to break in front of a room."
    )
    _add_arguments(parser)
    return _demo(parser.parse_args(arguments))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host",
        help="let other machines in, as chat users with a join code: an address of this machine, "
        "or 0.0.0.0 for all of them (the stage's control stays on 127.0.0.1)",
    )
    parser.add_argument(
        "--port",
        type=int,
        help=f"port of the stage (default {PORT}, or the next that is free); the audience's door "
        "is at the next free one after it",
    )
    parser.add_argument(
        "--no-browser", dest="browser", action="store_false", help="open no browser"
    )


def _demo(given: argparse.Namespace) -> int:
    for missing in (functools.partial(find_balancer, "caddy"), find_valkey):
        try:
            missing()
        except RuntimeError as error:
            raise SettingsError(f"{error}. `chatlab doctor` says what else is missing") from None
    if given.host is not None and importlib.util.find_spec("segno") is None:
        raise SettingsError("--host draws a QR code, which needs segno: `pip install segno`")
    # They would make the servers others than those that the script speaks of.
    for name in ("redis_url", *(option.name for option in options())):
        os.environ.pop(f"CHATLAB_{name.upper()}", None)
    try:
        asyncio.run(_run(given.host, given.port, browser=given.browser))
    except RuntimeError as error:
        raise SettingsError(f"the stage did not start: {error}") from error
    return 0


async def _run(host: str | None, port: int | None, *, browser: bool) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = [getattr(signal, name) for name in _ENDS if hasattr(signal, name)]
    for number in signals:
        with contextlib.suppress(NotImplementedError):  # Windows: KeyboardInterrupt comes instead
            loop.add_signal_handler(number, stopping.set)
    async with contextlib.AsyncExitStack() as stack:
        listening = _listen("127.0.0.1", port, PORT)
        stack.callback(listening.close)
        at = listening.getsockname()[1]
        stage, guard = await _staged(stack, host, at, listening, stopping)
        if stage is None:
            return
        address = f"http://127.0.0.1:{at}/#key={guard.key}"
        sys.stdout.write(f"stage on {address}\n")
        if stage.entrance is not None:
            sys.stdout.write(
                f"audience: {stage.entrance.address}/join with the code on the stage\n"
            )
        sys.stdout.write("Ctrl-C ends it.\n")
        sys.stdout.flush()
        if browser and _has_screen():
            # Not waited for: some browsers return when they are closed.
            threading.Thread(target=_open, args=(address,), daemon=True).start()
        await stopping.wait()
        # A second one ends a stage that does not end by itself.
        for number in signals:
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)


async def _staged(
    stack: contextlib.AsyncExitStack,
    host: str | None,
    port: int,
    listening: socket.socket,
    stopping: asyncio.Event,
) -> tuple[Stage | None, Guard]:
    """Everything up, or None where it was told to stop before that."""
    guard = Guard()
    here = [f"http://{name}:{port}" for name in ("127.0.0.1", "localhost")]
    pages = web.Application()
    add_chat_page(pages, frames=here, plain=lambda: stage.world.adapter == "stock")
    hub = Hub(guard, lambda: stage.greeting())
    stage = Stage(hub.tell, pages=await _serve(stack, pages))
    stack.push_async_callback(stage.stop)
    if host is not None:
        taken = _listen(host, None, port + 1)
        door_port = taken.getsockname()[1]
        taken.close()
        inside = make_outside(
            stage.codes, stage.guests, ROOM, plain=lambda: stage.world.adapter == "stock"
        )
        outside = await _serve(stack, inside)
        stage.entrance = Entrance(
            lambda: stage.world.inner,
            outside,
            host=host,
            port=door_port,
            codes=stage.codes,
            guests=stage.guests,
            name=stage.world.called("door"),
        )
    starting = asyncio.create_task(_start(stage))
    told = asyncio.create_task(stopping.wait())
    await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        await asyncio.wait({starting})  # its processes must be known to be ended
        return None, guard
    told.cancel()
    await starting
    control = make_control(
        guard,
        hub,
        stage.act,
        lambda: [wire.url for wire in stage.world.wires.values()],
    )
    runner = web.AppRunner(control, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    stack.push_async_callback(hub.close)
    await web.SockSite(runner, listening).start()
    return stage, guard


async def _start(stage: Stage) -> None:
    await stage.start()
    if stage.entrance is not None:
        await asyncio.to_thread(stage.entrance.open)


async def _serve(stack: contextlib.AsyncExitStack, app: web.Application) -> str:
    """Serve `app` on a free port of this machine, until the stack ends."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}"


def _listen(host: str, port: int | None, first: int) -> socket.socket:
    """A socket that listens at `port`; without one at `first`, or the next that is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    tried: list[int] = [port] if port is not None else [*range(first, first + _TRIES), 0]
    for number in tried:
        made = socket.socket(family)
        if os.name == "posix":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, number))
            made.listen(128)
        except OSError as error:
            made.close()
            if error.errno in (errno.EADDRINUSE, errno.EACCES) and number != tried[-1]:
                continue
            raise SettingsError(_why_not(host, number, error)) from None
        return made
    raise AssertionError("unreachable")


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken, perhaps by another stage: choose one with --port"
    if error.errno in (errno.EADDRNOTAVAIL, socket.EAI_NONAME):
        return f"--host {host} is not an address of this machine; 0.0.0.0 is all of them"
    return f"port {port} of {host} cannot be had: {error.strerror or error}"


def _has_screen() -> bool:
    """Whether a browser would have a window: one in this terminal helps nobody."""
    names = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    return not sys.platform.startswith("linux") or any(os.environ.get(name) for name in names)


def _open(address: str) -> None:
    with contextlib.suppress(webbrowser.Error, OSError):
        webbrowser.open(address)
