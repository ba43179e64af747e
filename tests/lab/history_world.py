"""A made-up chat service that behaves, and writes the history of what its clients did.

The checker's tests take such a history and spoil it. `kind` is `"chat"` (clients that show messages
in order and catch up), `"raw"` (clients that fetch what they missed) or `"stock"` (no id, no seq,
and nobody is ever disconnected, since nothing would be made up for).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from chatlab.lab.history import Delivered, History

Step = tuple[str, int, int, int]
STEPS = (
    "join",
    "leave",
    "send",
    "unanswered",
    "retry",
    "refused",
    "deliver",
    "drop",
    "back",
    "anew",
)


@dataclass
class Seat:
    """One client in one room: how far the wire has got, and what it has shown."""

    wire: int
    next: int
    epoch: str
    have: dict[int, Delivered] = field(default_factory=dict)


@dataclass
class World:
    kind: str = "chat"
    clients: int = 3
    rooms: int = 2
    history: History = field(default_factory=History)

    def __post_init__(self) -> None:
        self.now = 0.0
        self.logs: dict[str, list[Delivered]] = {f"room{n}": [] for n in range(self.rooms)}
        self.epochs = dict.fromkeys(self.logs, 1)
        self.seats: dict[tuple[str, str], Seat] = {}
        self.online = {f"c{n}" for n in range(self.clients)}
        self.names = sorted(self.online)
        self.acked: set[tuple[str, str]] = set()
        self.open: list[tuple[str, str, str, str]] = []  # client, room, key, text: no answer yet
        self.keys: dict[tuple[str, str, str], Delivered] = {}
        self.sends = 0
        self.ids = 0
        for name in self.names:
            self.history.client(name, shows=self.kind == "chat", at=self.tick())
            self.history.connected(name, at=self.tick())

    def tick(self) -> float:
        self.now += 0.01
        return self.now

    # --- steps ---------------------------------------------------------------------------------

    def play(self, steps: Iterable[Step]) -> History:
        for what, who, where, extra in steps:
            client = self.names[who % len(self.names)]
            room = sorted(self.logs)[where % len(self.logs)]
            getattr(self, what)(client, room, extra)
        self.finish()
        return self.history

    def finish(self) -> None:
        for name in self.names:
            self.back(name, "", 0)
        for (client, room), seat in self.seats.items():
            while seat.wire < len(self.logs[room]):
                self.deliver(client, room, 0)
        self.history.end(at=self.tick())

    def join(self, client: str, room: str, _: int = 0) -> None:
        if client not in self.online or (client, room) in self.seats:
            return
        seq, epoch = len(self.logs[room]), f"e{self.epochs[room]}"
        self.history.joining(client, room, at=self.tick())
        if self.kind == "stock":
            self.history.joined(client, room, at=self.tick())
        else:
            self.history.joined(client, room, seq=seq, epoch=epoch, at=self.tick())
        self.seats[client, room] = Seat(seq, seq + 1, epoch)

    def leave(self, client: str, room: str, _: int = 0) -> None:
        if client in self.online and (client, room) in self.seats:
            self.history.leaving(client, room, at=self.tick())
            self.deliver(client, room)  # what was on its way is no leak
            self.history.left(client, room, at=self.tick())
            del self.seats[client, room]

    def send(self, client: str, room: str, _: int = 0) -> None:
        self._attempt(client, room, None, None, answered=True, stored=True)

    def unanswered(self, client: str, room: str, extra: int = 0) -> None:
        self._attempt(client, room, None, None, answered=False, stored=extra % 2 == 0)

    def retry(self, client: str, room: str, _: int = 0) -> None:
        mine = [entry for entry in self.open if entry[:2] == (client, room)]
        if mine and client in self.online and (client, room) in self.seats:
            self.open.remove(mine[0])
            self._attempt(client, room, mine[0][2], mine[0][3], answered=True, stored=True)

    def refused(self, client: str, room: str, _: int = 0) -> None:
        if client in self.online:
            self.sends += 1
            text = f"refused {self.sends}"
            self.history.sent(client, self.sends, room, text, key=text, at=self.tick())
            self.history.acked(
                client, self.sends, stored=False, code="rate_limited", at=self.tick()
            )

    def deliver(self, client: str, room: str, _: int = 0) -> None:
        seat = self.seats.get((client, room))
        if seat is None or client not in self.online or seat.wire >= len(self.logs[room]):
            return
        message = self.logs[room][seat.wire]
        seat.wire += 1
        if (client, message.text) not in self.acked:
            self.history.arrived(client, self._seen(message), at=self.tick())
            seat.have[seat.wire] = message
        elif self.kind == "stock":
            return
        self._show(client, seat)

    def drop(self, client: str, _room: str, _: int = 0) -> None:
        if self.kind != "stock" and client in self.online:
            self.history.disconnected(client, at=self.tick())
            self.online.discard(client)

    def back(self, client: str, _room: str, _: int = 0) -> None:
        if client in self.online:
            return
        self.online.add(client)
        self.history.connected(client, at=self.tick())
        for (name, room), seat in self.seats.items():
            if name == client:
                self._again(client, room, seat)

    def anew(self, _client: str, room: str, extra: int = 0) -> None:
        """The log comes back with less, under another epoch; everybody is told."""
        if self.kind != "chat" or not self.logs[room]:
            return
        keep = extra % len(self.logs[room])
        gone = {message.id for message in self.logs[room][keep:]}
        self.keys = {key: m for key, m in self.keys.items() if m.id not in gone}
        del self.logs[room][keep:]
        self.epochs[room] += 1
        for (client, where), seat in self.seats.items():
            if where == room and client in self.online:
                self._again(client, room, seat)

    # --- inside --------------------------------------------------------------------------------

    def _attempt(
        self,
        client: str,
        room: str,
        key: str | None,
        text: str | None,
        *,
        answered: bool,
        stored: bool,
    ) -> None:
        if client not in self.online or (client, room) not in self.seats:
            return
        seat = self.seats[client, room]
        self.sends += 1
        text = f"text {self.sends}" if text is None else text
        key = f"key {self.sends}" if key is None else key
        self.history.sent(client, self.sends, room, text, key=key, at=self.tick())
        message = self.keys.get((client, room, key))
        if stored and message is None:
            self.ids += 1
            message = Delivered(room, client, text, f"id{self.ids}", len(self.logs[room]) + 1)
            self.logs[room].append(message)
            self.keys[client, room, key] = message
        if not answered:
            self.open.append((client, room, key, text))
            return
        assert message is not None
        place = {} if self.kind == "stock" else {"id": message.id, "seq": message.seq}
        self.history.acked(client, self.sends, **place, at=self.tick())
        assert message.seq is not None
        if message.seq > seat.wire:
            self.acked.add((client, text))
        seat.have[message.seq] = message
        self._show(client, seat)

    def _again(self, client: str, room: str, seat: Seat) -> None:
        log, epoch = self.logs[room], f"e{self.epochs[room]}"
        after = seat.next - 1 if self.kind == "chat" else seat.wire
        lost = epoch != seat.epoch
        self.history.joining(client, room, after=after, at=self.tick())
        self.history.joined(client, room, seq=len(log), epoch=epoch, lost=lost, at=self.tick())
        if lost:
            resumes = min(seat.next, len(log) + 1)
            self.history.missing(client, room, after, resumes, epoch=epoch, at=self.tick())
            seat.next, seat.epoch, seat.have = resumes, epoch, {}
        seat.wire = len(log)
        if self.kind == "raw":
            for message in log[after:]:
                self.history.fetched(client, message, at=self.tick())
        else:
            seat.have |= dict(enumerate(log, 1))
        self._show(client, seat)

    def _show(self, client: str, seat: Seat) -> None:
        while self.kind == "chat" and seat.next in seat.have:
            self.history.shown(client, seat.have[seat.next], at=self.tick())
            seat.next += 1

    def _seen(self, message: Delivered) -> Delivered:
        if self.kind == "stock":
            return Delivered(message.room, message.user, message.text)
        return message
