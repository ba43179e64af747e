"""One room's messages put in order: pure, without clock, socket or task.

`RoomFeed` is told what arrived and answers with what is next, and with what has to be asked for.
Who asks, when, and over which connection is `session.py`'s business.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from chatlab.errors import ChatError
from chatlab.protocol import HistoryPage, Joined, Message

__all__ = ["Ask", "Entry", "HistoryLost", "RoomClosed", "RoomFeed"]

_PAGE: Final = 200  # messages: the most that `history` gives at once
_BARREN: Final = 3  # empty answers in a row after which the log is not believed to have the rest


class HistoryLost(msgspec.Struct, frozen=True):
    """Messages that can no longer be had.

    `after` is the `seq` of the last message before the hole, `resumes` that of the first behind
    it, in `epoch`. `missing` counts what lies between; it is None where the room's log began anew:
    then nobody can tell, and `seq` may have gone back.
    """

    room: str
    after: int
    resumes: int
    missing: int | None
    epoch: str

    def __repr__(self) -> str:
        what = "the log began anew" if self.missing is None else f"{self.missing} missing"
        return f"<HistoryLost {self.room} after #{self.after}, goes on at #{self.resumes}: {what}>"


@dataclass(frozen=True, slots=True)
class RoomClosed:
    """The server did not let the client return to `room`; `error` says why."""

    room: str
    error: ChatError


Entry = Message | HistoryLost | RoomClosed
"""What an iterator over messages yields."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a room needs from the server: `join` it again, or `limit` messages of `history`."""

    what: Literal["join", "history"]
    after: int
    epoch: str
    limit: int = _PAGE
    urgent: bool = True


class RoomFeed:
    """Takes a room's messages from wherever they come and releases each once, in `seq` order.

    They come from the feed (`arrived`), from acks of the client's own sends (`arrived` too: the
    server skips the sender), from joins (`joined_again`) and from history (`page`), in any order,
    repeated or with holes. What cannot be had is released as `HistoryLost`.

    At most `capacity` released entries wait to be read and at most as many messages wait for an
    earlier one. Nothing is lost when more arrive: what does not fit is asked for again later.
    Readers are positions: each remembers how many entries it has passed.
    """

    def __init__(
        self,
        room: str,
        *,
        epoch: str,
        after: int,
        capacity: int = 1000,
        order: Callable[[], int] | None = None,
    ) -> None:
        self.room = room
        self.origin = (after, epoch)  # behind which the first entry comes
        self.epoch = epoch
        self.next = after + 1
        self.newest = after
        self.joined = False
        self.leaving = False  # nothing is asked for any more: a join now would undo the leaving
        self.closed = False
        self.cursor = 0  # the position of the reader who is furthest ahead
        self.start = 0  # the position of the oldest entry that is still kept
        self._capacity = capacity
        self._order = order or itertools.count().__next__
        self._entries: deque[tuple[int, Entry]] = deque()
        self._ids: dict[int, str] = {}
        self._ahead: dict[int, Message] = {}
        self._sending: set[object] = set()
        self._not_coming = after  # what is missing up to here does not come by itself
        self._barren = 0

    # --- what came in ------------------------------------------------------------------------

    def arrived(self, message: Message) -> None:
        """A message came from the feed, or as the ack of an own send."""
        known = self._ahead.get(message.seq)
        known_id = self._ids.get(message.seq) if known is None else known.id
        if known_id is not None and known_id != message.id:
            # The same number for another message: the log behind the room is another one. Joining
            # again tells.
            self.joined = False
            return
        self._keep(message)
        self._drain()

    def seen(self, seq: int) -> None:
        """A message with this `seq` exists, although it did not come here."""
        self.newest = max(self.newest, seq)

    def sending(self) -> object:
        """An own send is on its way; its ack may explain a hole. Returns what `settle` takes."""
        token = object()
        self._sending.add(token)
        return token

    def settle(self, token: object) -> None:
        """The own send was answered, or is no longer waited for."""
        self._sending.discard(token)

    def disconnected(self) -> None:
        """Nothing more comes over the old connection, no ack either."""
        self.joined = False
        self._sending.clear()

    def joined_again(self, answer: Joined) -> None:
        """The room was joined; `answer` is what the server knows at that moment."""
        self.joined = True
        if answer.epoch != self.epoch or answer.seq < self.next - 1:
            self._start_anew(answer)
        # The server sends what is above `answer.seq` only from now on: whatever claims to be
        # above it already came from nowhere.
        self._ahead = {seq: held for seq, held in self._ahead.items() if seq <= answer.seq}
        self.newest = self._not_coming = answer.seq
        for message in answer.messages:
            self._keep(message)
        self._drain()
        if self.newest < self.next:
            self._barren = 0

    def page(self, after: int, answer: HistoryPage) -> None:
        """History answered what comes behind `after`; what it left out does not exist any more."""
        if answer.epoch != self.epoch:
            self.joined = False
            return
        if after >= self.next:
            return
        news = [message for message in answer.messages if message.seq >= self.next]
        for message in news:
            if not self._has_space():
                break
            self._skip_to(message.seq)
            self._release(message)
        self._drain()
        if news or after < self.next - 1:
            return
        self._barren += 1
        if self._barren == _BARREN:
            self.joined = False
        elif self._barren == 2 * _BARREN:
            # Asked, joined again, asked again: the server claims a message that it does not have.
            self._skip_to(self.newest + 1)
            self._barren = 0

    def close(self, error: ChatError | None = None) -> None:
        """Nothing will come any more; `error` when that was not the client's wish."""
        self.closed = True
        if error is not None:
            self._put(RoomClosed(self.room, error))

    # --- what is needed ----------------------------------------------------------------------

    def need(self) -> Ask | None:
        """What to ask the server for now; None when nothing, or when an ack may still bring it."""
        if self.closed or self.leaving:
            return None
        after = self.next - 1
        if not self.joined:
            return Ask("join", after, self.epoch)
        space = self._capacity - (self.end - self.cursor)
        if space < max(1, self._capacity // 2):
            return None
        missing = self.newest - after - len(self._ahead)
        if missing <= len(self._sending):
            return None
        urgent = self.next <= self._not_coming
        return Ask("history", after, self.epoch, min(_PAGE, space), urgent)

    # --- what goes out -----------------------------------------------------------------------

    @property
    def end(self) -> int:
        """The position behind the newest released entry."""
        return self.start + len(self._entries)

    def read(self, position: int) -> tuple[int, Entry] | None:
        """The entry at `position` with its place among all rooms' entries; None: not there yet.

        Raises `LookupError` when the entry is no longer kept: another reader was much quicker.
        """
        if position < self.start:
            raise LookupError(position)
        return self._entries[position - self.start] if position < self.end else None

    def passed(self, position: int) -> None:
        """A reader has got beyond the entries before `position`."""
        self.cursor = max(self.cursor, position)
        self._drain()

    def find(self, seq: int) -> int | None:
        """The position of the message `seq` of the present epoch, if it is still kept."""
        if self._ids.get(seq) is None:
            return None
        for offset, (_, entry) in enumerate(reversed(self._entries), 1):
            if isinstance(entry, Message) and entry.seq == seq:
                return self.end - offset
        return None

    def oldest(self) -> int:
        """The `seq` of the oldest message that is still kept, or of the next to come."""
        kept = (entry.seq for _, entry in self._entries if isinstance(entry, Message))
        return next(kept, self.next)

    # --- inside ------------------------------------------------------------------------------

    def _keep(self, message: Message) -> None:
        self.newest = max(self.newest, message.seq)
        if message.seq < self.next:
            return
        self._ahead[message.seq] = message
        if len(self._ahead) > self._capacity:
            del self._ahead[max(self._ahead)]
            self._not_coming = self.newest

    def _drain(self) -> None:
        while self.next in self._ahead and self._has_space():
            self._release(self._ahead.pop(self.next))

    def _has_space(self) -> bool:
        return self.end - self.cursor < self._capacity

    def _release(self, message: Message) -> None:
        self._ahead.pop(message.seq, None)
        self.next = message.seq + 1
        self._barren = 0
        self._ids[message.seq] = message.id
        self._put(message)

    def _put(self, entry: Entry) -> None:
        self._entries.append((self._order(), entry))
        while len(self._entries) > self._capacity and self.start < self.cursor:
            _, old = self._entries.popleft()
            self.start += 1
            if isinstance(old, Message) and self._ids.get(old.seq) == old.id:
                del self._ids[old.seq]

    def _skip_to(self, seq: int) -> None:
        # What is held ahead was stored even where history has dropped it since: it is no loss.
        while self.next < seq:
            if self.next in self._ahead:
                self._release(self._ahead[self.next])
                continue
            resumes = min((held for held in self._ahead if self.next < held < seq), default=seq)
            missing = resumes - self.next
            self._put(HistoryLost(self.room, self.next - 1, resumes, missing, self.epoch))
            self.next = resumes

    def _start_anew(self, answer: Joined) -> None:
        # A log restored from a backup repeats messages that were released already, under the
        # same ids: what follows the last of those is new.
        known = set(self._ids.values())
        repeated = [message.seq for message in answer.messages if message.id in known]
        first = answer.messages[0].seq if answer.messages else answer.seq + 1
        resumes = repeated[-1] + 1 if repeated else first
        self._put(HistoryLost(self.room, self.next - 1, resumes, None, answer.epoch))
        self._ahead.clear()
        self._ids.clear()
        self._barren = 0
        self.epoch = answer.epoch
        self.next = resumes
