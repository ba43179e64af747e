"""The record of a run with several clients, and the checker's verdict on it.

`History` writes down what was sent, acked, received and shown, by whom and when; `check_history`
names every loss, duplicate, disorder, gap and leak in it. For one client and one server,
`verdict` of the first lessons is enough.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from chatlab.catchup import Entry, HistoryLost, RoomClosed
from chatlab.lab import history_events as ev
from chatlab.lab.history_events import Delivered
from chatlab.lab.history_record import Scribe
from chatlab.lab.history_report import Comparison, Fault, Report, compare
from chatlab.lab.history_rules import judge
from chatlab.lab.recorder import Recorder

__all__ = [
    "Comparison",
    "Delivered",
    "Fault",
    "History",
    "Report",
    "check_history",
    "compare",
    "history_of",
]


class History:
    """What happened, in order. Recording is one `list.append`, safe from any thread.

    Real clients are recorded by giving them `history.recorder(name)` and, for what a `ChatClient`
    shows, `await history.read(client)`; a run that is over by `history_of(alice, bob)`. Made-up
    histories are written with the methods named after what happens. `at` is in seconds; without
    it the time is now.
    """

    def __init__(self, events: Iterable[ev.Event] = ()) -> None:
        self.events: list[ev.Event] = list(events)
        self._same: dict[Delivered, Delivered] = {}

    def __len__(self) -> int:
        return len(self.events)

    def __repr__(self) -> str:
        clients = sum(isinstance(event, ev.Client) for event in self.events)
        return f"<History: {clients} clients, {len(self.events)} events>"

    def add(self, event: ev.Event) -> None:
        """Append one event."""
        self.events.append(event)

    def check(self) -> Report:
        """The verdict, as `check_history`."""
        return check_history(self)

    # --- real clients --------------------------------------------------------------------------

    def recorder(
        self, name: str, *, user: str | None = None, shows: bool = True, also: Any = None
    ) -> Scribe:
        """What a client is given as its `recorder`; it writes to this history.

        `user` is whose token it carries (by default `name`). `shows` says that what the client
        shows is recorded too, by `read`: right for a `ChatClient`, wrong for a raw one. `also` is
        a second recorder, for a drawing.
        """
        self.client(name, user=user, shows=shows)
        return Scribe(self, name, name if user is None else user, also=also, shows=shows)

    async def read(self, client: Any, name: str | None = None) -> None:
        """Read `client.messages()` of all rooms until the client is closed, and write it down.

        `client` is a `ChatClient`; `name` as given to `recorder` (by default the client's).
        Raises what ended the client's session.
        """
        name = client.name if name is None else name
        async for entry in client.messages():
            self.entry(name, entry)

    def entry(self, client: str, entry: Entry) -> None:
        """Record what an iterator of a `ChatClient` gave."""
        if isinstance(entry, HistoryLost):
            lost = entry
            self.missing(
                client, lost.room, lost.after, lost.resumes, count=lost.missing, epoch=lost.epoch
            )
        elif isinstance(entry, RoomClosed):
            self.add(ev.Closed(_now(None), client, entry.room))
        else:
            got = Delivered(entry.room, entry.user, entry.text, entry.id, entry.seq)
            self.shown(client, got)

    # --- what happens --------------------------------------------------------------------------

    def client(
        self, name: str, *, user: str | None = None, shows: bool = False, at: float | None = None
    ) -> None:
        """A client begins; `shows` as in `history_events.Client`."""
        self.add(ev.Client(_now(at), name, name if user is None else user, shows))

    def permit(
        self, user: str, room: str, allowed: bool = True, *, at: float | None = None
    ) -> None:
        """`user` may from now on be in `room`, or may not; a room without permits is open."""
        self.add(ev.Permit(_now(at), user, room, allowed))

    def connected(self, client: str, *, at: float | None = None) -> None:
        """The server has accepted the client."""
        self.add(ev.Connected(_now(at), client))

    def disconnected(self, client: str, *, at: float | None = None) -> None:
        """Its connection is gone, or it has given it up."""
        self.add(ev.Disconnected(_now(at), client))

    def joining(
        self, client: str, room: str, *, after: int | None = None, at: float | None = None
    ) -> None:
        """It asks to join; with `after` (a seq) to be given what is behind that."""
        self.add(ev.Joining(_now(at), client, room, after))

    def joined(
        self,
        client: str,
        room: str,
        *,
        seq: int | None = None,
        epoch: str | None = None,
        lost: bool = False,
        ok: bool = True,
        code: str | None = None,
        at: float | None = None,
    ) -> None:
        """It is in the room, whose newest message is `seq`; or, not `ok`, it is not."""
        self.add(ev.Joined(_now(at), client, room, ok, seq, epoch, lost, code))

    def leaving(self, client: str, room: str, *, at: float | None = None) -> None:
        """It asks to leave."""
        self.add(ev.Leaving(_now(at), client, room))

    def left(self, client: str, room: str, *, ok: bool = True, at: float | None = None) -> None:
        """It is out of the room."""
        self.add(ev.Left(_now(at), client, room, ok))

    def sent(
        self,
        client: str,
        send: int,
        room: str,
        text: str,
        *,
        key: str | None = None,
        at: float | None = None,
    ) -> None:
        """It sends, as its attempt number `send`; attempts with one `key` are one message."""
        self.add(ev.Sent(_now(at), client, send, room, text, key))

    def acked(
        self,
        client: str,
        send: int,
        *,
        id: str | None = None,
        seq: int | None = None,
        stored: bool | None = True,
        code: str | None = None,
        at: float | None = None,
    ) -> None:
        """Attempt `send` is answered. `stored` None: whether it was stored is unknown."""
        self.add(ev.Acked(_now(at), client, send, stored, id, seq, code))

    def arrived(self, client: str, message: Delivered, *, at: float | None = None) -> None:
        """The server sent it the message by itself."""
        self.add(ev.Arrived(_now(at), client, self._one(message)))

    def fetched(self, client: str, message: Delivered, *, at: float | None = None) -> None:
        """It asked for the message: by joining, or from history."""
        self.add(ev.Fetched(_now(at), client, self._one(message)))

    def shown(self, client: str, message: Delivered, *, at: float | None = None) -> None:
        """It showed the message to its reader."""
        self.add(ev.Shown(_now(at), client, self._one(message)))

    def missing(
        self,
        client: str,
        room: str,
        after: int,
        resumes: int,
        *,
        count: int | None = None,
        epoch: str | None = None,
        at: float | None = None,
    ) -> None:
        """It was told that what lies between two seqs is gone; see `history_events.Missing`."""
        self.add(ev.Missing(_now(at), client, room, after, resumes, count, epoch))

    def note(self, text: str, *, at: float | None = None) -> None:
        """Something was done to the run."""
        self.add(ev.Note(_now(at), text))

    def end(self, *, at: float | None = None) -> None:
        """Say that everything has settled; what comes later is not judged."""
        self.add(ev.End(_now(at)))

    # --- files ---------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write it as JSON lines, compressed where the name ends in `.gz`. Returns the path."""
        path = Path(path)
        with _open(path, "wb") as file:
            for event in list(self.events):
                file.write(ev.encode(event) + b"\n")
        return path

    @classmethod
    def load(cls, path: str | Path) -> History:
        """Read what `save` wrote. Raises `ValueError`, naming the line that is no event."""
        history = cls()
        with _open(Path(path), "rb") as file:
            for event in _decoded(file, str(path)):
                if isinstance(event, ev.Arrived | ev.Fetched | ev.Shown):
                    one = history._one(event.message)
                    event = type(event)(event.at, event.client, one)
                history.add(event)
        return history

    def _one(self, message: Delivered) -> Delivered:
        # Thirty clients get the same message: one object for all of them.
        return self._same.setdefault(message, message)


def check_history(history: History | Iterable[ev.Event]) -> Report:
    """Judge a run: what was lost, doubled, out of order, leaked, and the evidence for each.

    `lost`: acked, and not shown to a client that is in the room at the end and was when it was
    sent. `phantom`: delivered, and never sent, or refused, or sent with another text or by another
    user. `duplicated`: shown twice to one client, or one send stored twice. `out of order`: two
    receivers (or a receiver and the room's `seq`) disagree on which of two messages came first.
    `gap`: a `seq` that a receiver's stream leaves out. `leak`: delivered to a client that was not
    in the room at that time, or whose user may not be. `acked twice`: two answers to one send, one
    message acked for two sends, or two acks of one send that differ.

    No fault is what nobody can promise: a send without an answer (or answered `unavailable`,
    `closing`, `internal_error`) may be delivered or not; what a client was told is lost is
    excused, and the excuses are counted.
    """
    events = history.events if isinstance(history, History) else list(history)
    return judge(list(events))


def history_of(*clients: Any, users: dict[str, str] | None = None) -> History:
    """The history of a run that is over, from the records of raw clients.

    `clients` are raw clients or their recorders; `users` says, by client name, whose token each
    had, where that is not the name.
    """
    history = History()
    scribes: dict[str, Scribe] = {}
    entries = []
    for client in clients:
        recorder = getattr(client, "recorder", client)
        if not isinstance(recorder, Recorder):
            raise TypeError(f"history_of takes raw clients, not {type(client).__name__}")
        user = (users or {}).get(recorder.name)
        scribes[recorder.name] = history.recorder(recorder.name, user=user, shows=False)
        entries += recorder.entries
    history.events = [
        ev.Client(min((e.at for e in entries), default=0.0), e.client, e.user)
        for e in history.events
        if isinstance(e, ev.Client)
    ]
    for entry in sorted(entries, key=lambda entry: entry.order):
        scribes[entry.actor].entry(entry)
    return history


def _now(at: float | None) -> float:
    return time.monotonic() if at is None else at


def _open(path: Path, mode: str) -> IO[bytes]:
    opened: Any = gzip.open if path.suffix == ".gz" else open
    file: IO[bytes] = opened(path, mode)
    return file


def _decoded(file: IO[bytes], name: str) -> Iterator[ev.Event]:
    for number, text in enumerate(file, 1):
        try:
            yield ev.decode(text)
        except ValueError as error:
            raise ValueError(f"{name}, line {number}: {error}") from None
