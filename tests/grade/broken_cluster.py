"""Broken on purpose: what two servers on one Valkey share."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import msgspec

from chatlab.server.app import ChatServer
from chatlab.server.limits import UserBuckets
from chatlab.server.serving import encode_event
from chatlab.settings import Rate
from chatlab.storage.base import Delivery
from tests.grade.broken import breaks

TWO: dict[str, Any] = {"servers": 2, "storage": "redis"}


def is_own(server: ChatServer, delivery: Delivery) -> bool:
    return server.sessions.get(delivery.origin.split("/")[0]) is not None


def push(server: ChatServer, name: str, delivery: Delivery, **changed: Any) -> None:
    """Hand a message to the members here, whatever they have had."""
    room = server.rooms._rooms.get(name)
    message = msgspec.structs.replace(delivery.message, **changed)
    for sid, member in room.members.items() if room is not None else ():
        if sid != delivery.origin.split("/")[0]:
            member.push(encode_event("new-message", message))


@breaks("rooms-span-servers", **TWO)
def each_server_serves_its_own(server: ChatServer) -> None:
    feed = server.log.feed
    server.log.feed = lambda room, deliveries: feed(
        room, [each for each in deliveries if is_own(server, each)]
    )


@breaks("announced-across-servers", **TWO)
def presence_stays_on_its_server(server: ChatServer) -> None:
    publish = server._manager._publish

    async def silent(data: Any) -> None:
        if '"user-' not in data["emit"].packet:
            await publish(data)

    server._manager._publish = silent


@breaks("each-once-across-servers", **TWO)
def what_comes_from_elsewhere_comes_twice(server: ChatServer) -> None:
    feed = server.log.feed

    def doubled(room: str, deliveries: Any) -> None:
        feed(room, deliveries)
        for delivery in deliveries:
            if not is_own(server, delivery):
                push(server, room, delivery)

    server.log.feed = doubled


@breaks("one-order-across-servers", **TWO)
def each_server_serves_its_own_first(server: ChatServer) -> None:
    def own_first(room: str, deliveries: Any) -> None:
        loop = asyncio.get_running_loop()
        for delivery in deliveries:
            if is_own(server, delivery):
                push(server, room, delivery)
            else:
                loop.call_later(0.3, push, server, room, delivery)

    server.log.feed = own_first


@breaks("one-seq-across-servers", **TWO)
def each_server_counts_for_itself(server: ChatServer, number: int) -> None:
    def counted(room: str, deliveries: Any) -> None:
        for delivery in deliveries:
            push(server, room, delivery, seq=delivery.message.seq + 100 * number)

    server.log.feed = counted


@breaks("who-across-servers", **TWO)
def who_knows_its_own_server(server: ChatServer) -> None:
    async def who(room: str, limit: int) -> tuple[list[str], int]:
        users = list(server.rooms._rooms[room].users)
        return users, len(users)

    server.storage.presence.who = who


@breaks("announced-once-across-servers", **TWO)
def each_server_announces_for_itself(server: ChatServer) -> None:
    presence = server.storage.presence
    enter, changed = presence.enter, presence.changed

    async def loudly(room: str, user: str) -> None:
        await enter(room, user)
        if server.rooms._rooms[room].users[user] == 1:
            changed(room, user, here=True)

    def only_goodbyes(room: str, user: str, *, here: bool) -> None:
        if not here:
            changed(room, user, here=False)

    presence.enter, presence.changed = loudly, only_goodbyes


@breaks("key-across-servers", **TWO)
def keys_are_the_servers(server: ChatServer, number: int) -> None:
    append = server.log.append
    server.log.append = lambda room, user, text, key, origin: append(
        room, user, text, key and f"{key}{number}", origin
    )


@breaks("history-across-servers", **TWO)
def the_second_server_has_no_history(server: ChatServer, number: int) -> None:
    snapshot = server.log.snapshot

    async def empty(*args: Any, **asked: Any) -> Any:
        taken = await snapshot(*args, **asked)
        return dataclasses.replace(taken, messages=[]) if number else taken

    server.log.snapshot = empty


@breaks("receipts-across-servers", **TWO)
def receipts_stay_on_their_server(server: ChatServer) -> None:
    server._manager.told = lambda room, kind, data: None


@breaks("limit-across-servers", rate_burst=40, **TWO)
def each_server_has_a_limit_of_its_own(server: ChatServer) -> None:
    # So wide that it is noticed however long a busy machine takes.
    server.dispatch._buckets = UserBuckets(Rate(20.0, 120))


@breaks("ban-across-servers", **TWO)
def the_second_server_hears_of_no_ban(server: ChatServer, number: int) -> None:
    if number:
        server.directory.changed = lambda: None


@breaks("catch-up-elsewhere", **TWO)
def the_first_server_knows_what_it_stored(server: ChatServer, number: int) -> None:
    append, snapshot = server.log.append, server.log.snapshot
    stored: set[tuple[str, str]] = set()

    def noted(room: str, user: str, text: str, *rest: Any) -> Any:
        stored.add((room, text))
        return append(room, user, text, *rest)

    async def own(*args: Any, **asked: Any) -> Any:
        taken = await snapshot(*args, **asked)
        mine = [message for message in taken.messages if (message.room, message.text) in stored]
        return taken if number else dataclasses.replace(taken, messages=mine)

    server.log.append, server.log.snapshot = noted, own


@breaks("dead-server-leaves", **TWO)
def the_dead_are_never_taken_out(server: ChatServer) -> None:
    server.storage.presence._may_reap = lambda: 0
