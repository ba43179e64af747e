"""A history put in order: who sent which message, and what each client saw of each room, when.

One pass over the events fills a `Digest`; the rules then ask only what is there. It finds no faults
but those that show as an event goes by: a message for somebody who is not in its room.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

from chatlab.lab import history_events as ev
from chatlab.lab.history_model import Digest, Leak, Send, View

__all__ = ["digest"]


def digest(events: Iterable[ev.Event], *, grace: float) -> Digest:
    """Read `events` up to the end that they name. `grace`, in seconds: see `judge`."""
    reader = _Reader(grace)
    for order, event in enumerate(events):
        if isinstance(event, ev.End):
            break
        reader.take(order, event)
    return reader.done()


class _Reader:
    def __init__(self, grace: float) -> None:
        self.digest = Digest()
        self._grace = grace
        self._first: float | None = None
        self._sends: dict[tuple[str, ...] | tuple[str, int], Send] = {}
        self._attempts: dict[tuple[str, int], Send] = {}
        self._answered: set[tuple[str, int]] = set()
        self._views: dict[tuple[str, str], View] = {}
        self._ever: set[tuple[str, str]] = set()
        self._after: dict[tuple[str, str], int | None] = {}
        self._connection: dict[str, int] = defaultdict(int)
        self._joins: dict[tuple[str, str], int] = defaultdict(int)
        # What the server may believe: in the room, or about to be. Until the next connection.
        self._maybe_in: set[tuple[str, str]] = set()
        self._in: set[tuple[str, str]] = set()
        self._wired: set[str] = set()
        self._permits: dict[str, dict[str, tuple[bool, float]]] = defaultdict(dict)

    def take(self, order: int, event: ev.Event) -> None:
        if self._first is None:
            self._first = self.digest.begin = event.at
        match event:
            case ev.Shown():
                self._shown(order, event)
            case ev.Arrived():
                self._arrived(order, event)
            case ev.Sent():
                self._sent(order, event)
            case ev.Acked():
                self._acked(order, event)
            case ev.Fetched():
                self._view(order, event.client, event.message.room).fetched.append(event.message)
            case ev.Missing():
                self._missing(order, event)
            case ev.Client():
                self.digest.clients[event.client] = event
            case ev.Permit():
                self._permits[event.room][event.user] = (event.allowed, event.at)
            case _:
                self._membership(order, event)

    def done(self) -> Digest:
        for key, view in self._views.items():
            view.at_end = key in self._in
        return self.digest

    # --- who is where --------------------------------------------------------------------------

    def _membership(self, order: int, event: ev.Event) -> None:
        match event:
            case ev.Connected():
                self._connection[event.client] += 1
                for inside in (self._maybe_in, self._in):
                    inside -= {key for key in inside if key[0] == event.client}
            case ev.Disconnected():
                # Who gives a connection up may still get what was on its way: that is no leak.
                self._in -= {key for key in self._in if key[0] == event.client}
            case ev.Joining():
                key = (event.client, event.room)
                self._maybe_in.add(key)
                self._ever.add(key)
                self._after[key] = event.after
            case ev.Joined():
                self._joined(order, event)
            case ev.Left(ok=True) | ev.Closed():
                key = (event.client, event.room)
                self._maybe_in.discard(key)
                self._in.discard(key)
                self._views.pop(key, None)
                self._joins[key] += 1

    def _joined(self, order: int, event: ev.Joined) -> None:
        key = (event.client, event.room)
        if not event.ok:
            if key not in self._in:
                self._maybe_in.discard(key)
            return
        self._maybe_in.add(key)
        self._in.add(key)
        if key not in self._views:
            view = self._open(order, *key)
            after = self._after.get(key)
            view.start = event.seq if after is None else after
            view.epochs = [event.epoch]

    def _open(self, order: int, client: str, room: str) -> View:
        known = self.digest.clients.get(client)
        user, shows = (client, False) if known is None else (known.user, known.shows)
        view = self._views[client, room] = View(client, user, room, order, shows=shows)
        self.digest.views.append(view)
        return view

    def _view(self, order: int, client: str, room: str) -> View:
        view = self._views.get((client, room))
        if view is None:
            # Shown late, after it left; or by somebody who never joined, which is judged apart.
            late = [v for v in self.digest.views if v.client == client and v.room == room]
            view = late[-1] if late else self._open(order, client, room)
        return view

    # --- what was delivered --------------------------------------------------------------------

    def _arrived(self, order: int, event: ev.Arrived) -> None:
        client, room = event.client, event.message.room
        self._wired.add(client)
        key = (client, room)
        if key not in self._maybe_in:
            why = "was not in it at that time" if key in self._ever else "never joined it"
            self._leaked(event, why)
            return
        wire = (client, room, self._connection[client], self._joins[key])
        self.digest.wire.setdefault(wire, []).append(event)
        if not self._permitted(event):
            self.digest.leaks.append(Leak(event, "may not be in it"))
        known = self.digest.clients.get(client)
        if known is None or not known.shows:
            self._seen(order, event)

    def _shown(self, order: int, event: ev.Shown) -> None:
        key = (event.client, event.message.room)
        if key not in self._ever:
            self._leaked(event, "never joined it")
            return
        if event.client not in self._wired and key not in self._views:
            # Nothing is known of its wire, so what it shows is all there is to judge.
            self._leaked(event, "had left it")
            return
        if event.client not in self._wired and not self._permitted(event):
            self.digest.leaks.append(Leak(event, "may not be in it"))
        self._seen(order, event)

    def _leaked(self, event: ev.Arrived | ev.Shown, why: str) -> None:
        self.digest.leaks.append(Leak(event, why))
        self.digest.stray.append(event)
        self.digest.delivered += 1

    def _seen(self, order: int, event: ev.Arrived | ev.Shown) -> None:
        view = self._view(order, event.client, event.message.room)
        view.items.append((order, len(view.epochs) - 1, event))
        self.digest.delivered += 1

    def _permitted(self, event: ev.Arrived | ev.Shown) -> bool:
        permits = self._permits.get(event.message.room)
        if permits is None:
            return True
        known = self.digest.clients.get(event.client)
        allowed, since = permits.get(
            event.client if known is None else known.user, (False, -math.inf)
        )
        return allowed or event.at < since + self._grace

    def _missing(self, order: int, event: ev.Missing) -> None:
        view = self._view(order, event.client, event.room)
        view.told.append((order, event))
        if event.missing is None:
            view.epochs.append(event.epoch)
            self.digest.anew.add(event.room)

    # --- what was sent -------------------------------------------------------------------------

    def _sent(self, order: int, event: ev.Sent) -> None:
        known = self.digest.clients.get(event.client)
        user = event.client if known is None else known.user
        one: tuple[str, ...] | tuple[str, int] = (event.client, event.send)
        if event.key is not None:
            one = (user, event.room, event.key)
        send = self._sends.get(one)
        if send is None:
            send = self._sends[one] = Send(event.room, user, order)
            self.digest.sends.append(send)
        send.attempts.append(event)
        self._attempts[event.client, event.send] = send

    def _acked(self, order: int, event: ev.Acked) -> None:
        send = self._attempts.get((event.client, event.send))
        if send is None:
            return
        if (event.client, event.send) in self._answered:
            self.digest.acked_twice.append((send, event))
        self._answered.add((event.client, event.send))
        send.answers.append((order, event))
        if event.stored:
            send.oks.append((order, event))
            view = self._views.get((event.client, send.room))
            if view is not None:
                view.own.append((send, event))
