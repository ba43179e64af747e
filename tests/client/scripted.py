"""A tiny server that speaks the wire contract and misbehaves as it is told.

It is for what the real server cannot be made to do: answers of every code, answers that never
come, messages that are skipped. Everything else is tested against the real one.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque

import socketio
from aiohttp import web

NEVER = object()
"""As an answer: the ack is never sent, although the event was handled."""

EVENTS = (
    "join-room",
    "leave-room",
    "send-message",
    "history",
    "who",
    "typing",
    "mark-read",
    "mark-delivered",
    "refresh-token",
)


class Scripted:
    """A server for one room, `general`. Use it with `async with`.

    `answers[event]` are given instead of the proper ones, one each time; `refusals` are for the
    next connections (message, data); `skip` holds the `seq`s that are not delivered. `seen` has
    every event with its payload, `auths` every handshake; who connects waits for `door`.
    """

    def __init__(self):
        self.answers = defaultdict(deque)
        self.before = defaultdict(deque)  # functions to call before an event is handled
        self.refusals = deque()
        self.skip = set()
        self.seen = []
        self.auths = []
        self.epoch, self.log, self.keys = "e1", [], {}
        self.most = 3  # messages that a join or a page of history gives
        self.members = set()
        self.sio = socketio.AsyncServer(async_mode="aiohttp", ping_interval=25)
        self._wires = {}
        self.door = asyncio.Event()
        self.door.set()
        self._end = asyncio.Event()
        self.sio.on("connect", self._connect)
        self.sio.on("disconnect", self._disconnect)
        for event in EVENTS:
            self.sio.on(event, self._handler(event))

    async def __aenter__(self):
        app = web.Application()
        self.sio.attach(app)
        self._runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.door.set()
        self._end.set()
        self.cut()
        await self._runner.cleanup()
        await self.sio.shutdown()

    # --- what a test does ---

    async def say(self, *texts, user="bob"):
        """Messages of somebody else."""
        for text in texts:
            await self._deliver(self._store(text, user), self.members)

    async def tell(self, event, data=None):
        """An event for every socket."""
        for sid in list(self._wires):
            await self.sio.emit(event, data, to=sid)

    async def dismiss(self):
        """Socket.IO's DISCONNECT for every socket."""
        for sid in list(self._wires):
            await self.sio.disconnect(sid)

    async def close_transports(self):
        """Engine.IO's CLOSE for every socket, as a server that shuts down does."""
        for sid in list(self._wires):
            await self.sio.eio.disconnect(self.sio.manager.eio_sid_from_sid(sid, "/"))

    async def cut_and_keep_out(self):
        """As `cut`; nobody gets in until `door` is set again."""
        self.door.clear()
        self.cut()
        while self._wires:
            await asyncio.sleep(0.005)

    def cut(self):
        """Every connection ends without a word."""
        for wire in self._wires.values():
            wire.abort()

    def begin_anew(self, *texts):
        """Another log, in another epoch, behind everybody's back."""
        self.epoch, self.log, self.keys = self.epoch + "'", [], {}
        for text in texts:
            self._store(text, "bob")

    def payloads(self, event):
        return [data for name, data in self.seen if name == event]

    # --- the contract, as far as a test needs it ---

    async def _connect(self, sid, environ, auth):
        self.auths.append(auth)
        await self.door.wait()
        if self.refusals:
            message, data = self.refusals.popleft()
            raise socketio.exceptions.ConnectionRefusedError(message, data)
        self._wires[sid] = environ["aiohttp.request"].transport

    async def _disconnect(self, sid, reason=None):
        self._wires.pop(sid, None)
        self.members.discard(sid)

    def _handler(self, event):
        proper = getattr(self, "_" + event.replace("-", "_"), self._fine)

        async def handle(sid, data):
            self.seen.append((event, data))
            if self.before[event]:
                await self.before[event].popleft()()
            scripted = self.answers[event].popleft() if self.answers[event] else None
            if scripted is not None and scripted is not NEVER:
                return scripted
            answer = await proper(sid, data)
            if scripted is NEVER:
                await self._end.wait()
            return answer

        return handle

    async def _fine(self, sid, data):
        return {"ok": True}

    async def _join_room(self, sid, data):
        self.members.add(sid)
        after = data.get("after")
        lost = after is not None and (
            data.get("epoch", self.epoch) != self.epoch or after > len(self.log)
        )
        missed = self.log[after:] if after is not None and not lost else self.log[-self.most :]
        return {
            "ok": True,
            "room": data["room"],
            "seq": len(self.log),
            "epoch": self.epoch,
            "users": ["alice"],
            "count": 1,
            "messages": missed[: self.most],
            "more": len(missed) > self.most,
            "lost": lost,
            "read": 0,
        }

    async def _leave_room(self, sid, data):
        self.members.discard(sid)
        return {"ok": True, "room": data["room"]}

    async def _who(self, sid, data):
        return {"ok": True, "users": ["alice", "bob"], "count": 2}

    async def _refresh_token(self, sid, data):
        return {"ok": True, "expiresAt": "2027-01-01T00:00:00.000Z"}

    async def _history(self, sid, data):
        found = self.log[data["after"] :]
        limit = min(self.most, data["limit"])
        return {
            "ok": True,
            "messages": found[:limit],
            "more": len(found) > limit,
            "epoch": self.epoch,
        }

    async def _send_message(self, sid, data):
        stored, duplicate = self.keys.get(data["key"]), True
        if stored is None:
            stored, duplicate = self._store(data["text"], "alice"), False
            self.keys[data["key"]] = stored
            await self._deliver(stored, self.members - {sid})
        return {"ok": True, "duplicate": duplicate} | {
            name: stored[name] for name in ("id", "seq", "timestamp")
        }

    def _store(self, text, user):
        seq = len(self.log) + 1
        self.log.append(
            {
                "id": f"{self.epoch}-{seq}",
                "seq": seq,
                "room": "general",
                "user": user,
                "text": text,
                "timestamp": "2026-01-01T00:00:00.000Z",
            }
        )
        return self.log[-1]

    async def _deliver(self, stored, members):
        if stored["seq"] not in self.skip:
            for sid in list(members):
                await self.sio.emit("new-message", stored, to=sid)
