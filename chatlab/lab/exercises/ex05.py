"""Checks of exercise 05: rooms that two servers share, and a balancer that serves in turn.

Servers, Valkey and balancer are real; what a server is told is counted on its line to the Valkey.
Delivering in one order is checked in `ex05_order.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import socketio
from aiohttp import web

from chatlab.lab.background import Server, background
from chatlab.lab.balancer import balancer
from chatlab.lab.checks import advice, check, expect, written
from chatlab.lab.clients import RawClient
from chatlab.lab.exercises.ex05_bus import PATIENCE, Site, sites
from chatlab.lab.exercises.ex05_order import everybody_reads_one_order

__all__ = [
    "everybody_reads_one_order",
    "nobody_polls",
    "two_servers_share_rooms",
]

# -- task 1 ----------------------------------------------------------------------------------------


@check("two servers share their rooms, and each is told of its own only", task=1, lesson="05")
async def two_servers_share_rooms(shared_rooms: Callable[..., Any]) -> None:
    """`shared_rooms(bus, deliver)` makes one server's part."""
    async with sites(shared_rooms, "server A", "server B") as (a, b):
        alice, carol = await a.client("alice", "tea"), await a.client("carol", "tea")
        bob, dave = await b.client("bob", "tea"), await b.client("dave", "coffee")
        await _everybody_gets_it_once(a, b, alice, [carol, bob])
        expect(
            not dave.received,
            f"dave is in another room and got `{dave.received!r}` — "
            "deliver to the room that the message is for",
        )
        await _nobody_is_told_of_other_rooms(a, b, dave)
        await _the_last_one_turns_off_the_light(a, b, alice, bob)


async def _everybody_gets_it_once(
    a: Site, b: Site, alice: RawClient, readers: list[RawClient]
) -> None:
    # The second message comes after all copies of the first.
    for text in ("one", "two"):
        await a.ask(alice, "send-message", {"room": "tea", "text": text})
    for reader in readers:
        where = "the sender's own" if reader.name == "carol" else "the other"
        try:
            await reader.wait_for(
                lambda items: any(item.data["text"] == "two" for item in items), timeout=PATIENCE
            )
        except TimeoutError:
            a.complain()
            b.complain()
            advice(
                f"a message did not reach the members on {where} server — publish it on a channel "
                "that every server with members has subscribed to, and deliver what is heard"
            )
        texts = reader.received_texts
        expect(
            texts.count("one") < 2,
            f"a member on {where} server got one message {texts.count('one')} times — "
            "the bus tells this server too: deliver in one place only",
        )
        expect(texts == ["one", "two"], f"a member on {where} server got {texts}, not one and two")
    expect(not alice.received, "the sender got her own message — pass on its `sid` as it is")


async def _nobody_is_told_of_other_rooms(a: Site, b: Site, dave: RawClient) -> None:
    await a.rest()  # its own copy of what it published may still be on its way
    a.line.clear()
    erin = await b.client("erin", "coffee")
    await b.ask(dave, "send-message", {"room": "coffee", "text": "three"})
    try:
        await erin.wait_for("new-message", timeout=PATIENCE)
    except TimeoutError:
        advice("a message to a second room did not arrive — each room has a channel of its own")
    # What is published next comes after it, on whatever line.
    await a.rest()
    expect(
        not a.line.heard,
        "server A was told of a message to a room in which it has nobody — "
        "give each room a channel of its own, and subscribe when the first member comes",
    )


async def _the_last_one_turns_off_the_light(
    a: Site, b: Site, alice: RawClient, bob: RawClient
) -> None:
    fred = await b.client("fred", "tea")
    await b.ask(fred, "leave-room", "tea")
    await a.ask(alice, "send-message", {"room": "tea", "text": "four"})
    try:
        await bob.wait_for(
            lambda items: any(item.data["text"] == "four" for item in items), timeout=PATIENCE
        )
    except TimeoutError:
        b.complain()
        advice(
            "one of two members left, and the other gets nothing any more — "
            "count the members, and unsubscribe when the last one leaves"
        )
    await b.ask(bob, "leave-room", "tea")
    await b.rest()
    b.line.clear()
    await a.ask(alice, "send-message", {"room": "tea", "text": "five"})
    await b.rest()
    expect(
        not b.line.heard,
        "the last member left, and the server is still told of the room — unsubscribe then",
    )
    await b.ask(bob, "join-room", "tea")
    await a.ask(alice, "send-message", {"room": "tea", "text": "six"})
    try:
        await bob.wait_for(
            lambda items: any(item.data["text"] == "six" for item in items), timeout=PATIENCE
        )
    except TimeoutError:
        b.complain()
        advice("a member left and came back, and gets nothing — subscribe again")
    a.complain()
    b.complain()


# -- task 2 ----------------------------------------------------------------------------------------


class _Door:
    """A server of the learner's, and which transports its clients came with."""

    def __init__(self, name: str, new_server: Callable[[], Any]) -> None:
        self.asked: list[str] = []
        self._new_server = new_server
        self.server: Server = background(self._app, name=name)

    def _app(self) -> web.Application:
        sio = written(self._new_server(), "new_server")
        expect(
            isinstance(sio, socketio.AsyncServer) and sio.async_mode == "aiohttp",
            "`new_server` gives back no server of python-socketio on aiohttp — "
            'begin with `socketio.AsyncServer(async_mode="aiohttp")`',
        )

        async def hello(sid: str) -> Any:
            return {"ok": True}

        sio.on("hello", hello)

        async def healthz(_: web.Request) -> web.Response:
            return web.Response()

        @web.middleware
        async def note(request: web.Request, handler: Any) -> web.StreamResponse:
            if "EIO" in request.query:
                self.asked.append(request.query.get("transport", "polling"))
            response: web.StreamResponse = await handler(request)
            return response

        app = web.Application(middlewares=[note])
        app.router.add_get("/healthz", healthz)
        sio.attach(app)
        return app


@contextlib.asynccontextmanager
async def _doors(new_server: Callable[[], Any]) -> AsyncIterator[list[_Door]]:
    async with contextlib.AsyncExitStack() as stack:
        doors = []
        for name in ("server A", "server B"):
            doors.append(_Door(name, new_server))
            stack.push_async_callback(doors[-1].server.aclose)
        yield doors


@check("nobody polls, so it does not matter which server comes next", task=2, lesson="05")
async def nobody_polls(new_server: Callable[[], Any], connect: Callable[..., Any]) -> None:
    """`new_server()` makes a server; `connect(client, url)` connects python-socketio's client."""
    async with _doors(new_server) as doors:
        servers = [door.server for door in doors]
        async with balancer(*servers, sticky=False, name="check 05") as entrance:
            for _ in range(4):
                await _one_gets_in(connect, entrance.url, doors)
        await _a_poll_is_refused(servers[0].url)


async def _one_gets_in(connect: Callable[..., Any], url: str, doors: list[_Door]) -> None:
    client = RawClient("client")  # which leaves at once, also where polling would keep it
    failed: Exception | None = None
    try:
        try:
            await connect(client, url)
        except socketio.exceptions.ConnectionError as error:
            failed = error
        polled = any("polling" in door.asked for door in doors)
        expect(
            not polled,
            "a client began with polling — behind a balancer that serves in turn its next request "
            'goes to another server: `transports=["websocket"]`',
        )
        if failed is not None:
            raise failed
        expect(
            client.connected,
            "after `connect` the client is not connected — `await client.connect(url, …)`",
        )
        answer = await client.call("hello", timeout=PATIENCE)
        expect(answer == {"ok": True}, f"an event was answered with `{answer}`")
    finally:
        await client.aclose()


async def _a_poll_is_refused(url: str) -> None:
    address = f"{url}/socket.io/?EIO=4&transport=polling"
    async with aiohttp.ClientSession() as http, http.get(address) as answer:
        expect(
            answer.status >= 400,
            "the server still opens a session for a client that polls, and the next request finds "
            "it gone — let the server take websockets only, so that it is told at once",
        )
