"""The checks of exercise 06 take right answers however they are written, and name what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import pytest

from chatlab.lab.exercises import ex06
from chatlab.lab.exercises.ex06 import hang_up, sids

CLOSING = {"ok": False, "code": "closing", "retry": True}


# -- task 1 ----------------------------------------------------------------------------------------


class Reader:
    """A right answer to task 1, in parts that wrong answers replace."""

    def __init__(self, client: Any, show: Any) -> None:
        self.client, self.show = client, show
        self.newest, self.waiting = 0, dict[int, Any]()
        client.on("connect", self.connect)
        client.on("new-message", self.new_message)

    async def connect(self) -> None:
        await self.join()
        await self.catch_up()

    async def join(self) -> None:
        await self.client.call("join-room", "general")

    async def new_message(self, message: Any) -> None:
        self.take(message)
        if self.waiting:
            await self.catch_up()

    async def catch_up(self) -> None:
        more = True
        while more:
            more = await self.page()

    async def page(self) -> bool:
        page = await self.client.call("history", self.newest)
        for message in page["messages"]:
            self.take(message)
        return bool(page["more"])

    def take(self, message: Any) -> None:
        if message["seq"] > self.newest:
            self.waiting[message["seq"]] = message
        while self.newest + 1 in self.waiting:
            self.newest += 1
            self.show(self.waiting.pop(self.newest))


def believes_the_log_only(client: Any, show: Any) -> None:
    """Another right answer: news are only a reason to ask, and one task asks."""
    news = asyncio.Event()
    newest = 0

    async def ask() -> None:
        nonlocal newest
        while True:
            await news.wait()
            news.clear()
            more = True
            while more:
                page = await client.call("history", newest)
                for message in page["messages"]:
                    newest = message["seq"]
                    show(message)
                more = page["more"]

    asking: list[asyncio.Task[None]] = []

    @client.on("connect")
    async def connect() -> None:
        for task in asking:
            task.cancel()
        await client.call("join-room", "general")
        asking[:] = [asyncio.create_task(ask())]
        news.set()

    @client.on("new-message")
    async def new_message(message: Any) -> None:
        news.set()


class OneAtATime(Reader):
    """Another right answer: a lock, and a list that is sorted."""

    def __init__(self, client: Any, show: Any) -> None:
        super().__init__(client, show)
        self.lock = asyncio.Lock()
        self.early: list[Any] = []

    async def catch_up(self) -> None:
        async with self.lock:
            await super().catch_up()

    async def new_message(self, message: Any) -> None:
        self.take(message)
        await asyncio.sleep(0.05)
        if self.early:
            await self.catch_up()

    def take(self, message: Any) -> None:
        self.early = sorted([*self.early, message], key=lambda each: int(each["seq"]))
        while self.early and self.early[0]["seq"] <= self.newest + 1:
            message = self.early.pop(0)
            if message["seq"] > self.newest:
                self.newest = message["seq"]
                self.show(message)


@pytest.mark.parametrize("answer", [Reader, OneAtATime])
async def test_catching_up_may_be_written_in_any_way(answer: Any) -> None:
    result = await ex06.misses_nothing(answer)
    assert result.done, result.advice


async def test_asking_again_and_again_is_not_catching_up() -> None:
    result = await ex06.misses_nothing(believes_the_log_only)
    assert not result.done
    assert "ask only when something is missing" in result.advice


def unfinished(client: Any, show: Any) -> Any: ...


def shows_what_comes(client: Any, show: Any) -> None:
    async def connect() -> None:
        await client.call("join-room", "general")

    client.on("connect", connect)
    client.on("new-message", show)


class NeverJoins(Reader):
    async def join(self) -> None: ...


class JoinsOnce(Reader):
    joined = False

    async def join(self) -> None:
        if not self.joined:
            self.joined = True
            await super().join()


class AsksOnlyAtTheStart(Reader):
    asked = False

    async def catch_up(self) -> None:
        if not self.asked:
            self.asked = True
            await super().catch_up()


class AsksOnlyAtConnect(Reader):
    async def new_message(self, message: Any) -> None:
        self.take(message)


class AsksFirst(AsksOnlyAtConnect):
    async def connect(self) -> None:
        await self.catch_up()
        await asyncio.sleep(0.05)
        await self.join()


class OnePage(Reader):
    async def catch_up(self) -> None:
        await self.page()


class AsksFromTheStart(Reader):
    """Shows everything again after each return."""

    async def connect(self) -> None:
        self.newest = 0
        await super().connect()


class ShowsTwice(Reader):
    """What is news and in the log is shown as both."""

    def take(self, message: Any) -> None:
        if message["seq"] <= self.newest:
            self.show(message)
        super().take(message)


class DeafWhileAsking(Reader):
    """Throws away what comes while it catches up."""

    asking = False

    async def catch_up(self) -> None:
        self.asking = True
        await super().catch_up()
        self.asking = False

    async def new_message(self, message: Any) -> None:
        if not self.asking:
            await super().new_message(message)


class ShowsWhatIsNewer(Reader):
    """Does not keep what comes too early, and so drops what comes late."""

    def take(self, message: Any) -> None:
        if message["seq"] > self.newest:
            self.newest = message["seq"]
            self.show(message)


class ShowsTexts(Reader):
    def __init__(self, client: Any, show: Any) -> None:
        super().__init__(client, lambda message: show(message["text"]))


class Crashes(Reader):
    def take(self, message: Any) -> None:
        super().take(message["message"])


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (unfinished, "`follow` does nothing yet"),
        (shows_what_comes, "#1 to #2 was never shown — on `connect`, join the room, then ask"),
        (NeverJoins, "#3 was never shown"),
        (JoinsOnce, "join again on each `connect`"),
        (AsksOnlyAtTheStart, "after a cut"),
        (AsksOnlyAtConnect, "not only `connect` is"),
        (AsksFirst, "join first and then ask"),
        (OnePage, "while it says `more`"),
        (AsksFromTheStart, "was shown twice"),
        (ShowsTwice, "was shown twice"),
        (DeafWhileAsking, "must not be thrown away"),
        (ShowsWhatIsNewer, "keep what comes before its turn"),
        (ShowsTexts, "hand it each message as it came"),
        (Crashes, "your code raised `KeyError: 'message'`"),
    ],
)
async def test_a_client_that_misses_something_is_told_when(answer: Any, advice: str) -> None:
    result = await ex06.misses_nothing(answer)
    assert not result.done
    assert advice in result.advice


# -- task 2 ----------------------------------------------------------------------------------------


class Chat:
    """A right answer to task 2, in parts that wrong answers replace."""

    late: Any = CLOSING
    patience: float | None = 1.0

    def __init__(self, sio: Any, store: Any) -> None:
        self.sio, self.store = sio, store
        self.leaving = False
        self.in_hand = set[Any]()
        sio.on("send-message", self.send_message)

    async def send_message(self, sid: str, data: Any) -> Any:
        if self.leaving:
            return self.late
        task = asyncio.current_task()
        self.in_hand.add(task)
        try:
            return {"ok": True, "id": await self.store(data["text"])}
        finally:
            self.in_hand.discard(task)

    async def __call__(self) -> None:
        self.leaving = True
        await self.finish()
        for sid in sids(self.sio):
            await self.close(sid)

    async def finish(self) -> None:
        if self.in_hand:
            await asyncio.wait(self.in_hand, timeout=self.patience)

    async def close(self, sid: str) -> None:
        await hang_up(self.sio, sid)


def with_a_counter(sio: Any, store: Any) -> Any:
    """Another right answer: a number, an event, and a middle that is asked all the time."""
    in_hand = 0
    leaving = asyncio.Event()
    idle = asyncio.Event()
    idle.set()

    @sio.on("send-message")
    async def send_message(sid: str, data: Any) -> Any:
        nonlocal in_hand
        if leaving.is_set():
            return {"ok": False, "error": "Closing", "code": "closing", "retry": True}
        in_hand += 1
        idle.clear()
        try:
            stored = await store(data["text"])
        finally:
            in_hand -= 1
            if not in_hand:
                idle.set()
        return {"ok": True, "id": stored}

    async def stop() -> None:
        leaving.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(idle.wait(), 0.9)
        await asyncio.gather(*(hang_up(sio, sid) for sid in sids(sio)))

    return stop


@pytest.mark.parametrize("answer", [Chat, with_a_counter])
async def test_a_server_may_go_in_any_way_that_loses_nothing(answer: Any) -> None:
    result = await ex06.goes_without_a_loss(answer)
    assert result.done, result.advice


def not_written(sio: Any, store: Any) -> Any: ...


def gives_no_function(sio: Any, store: Any) -> Any:
    Chat(sio, store)
    return "stop"


class Disconnects(Chat):
    async def close(self, sid: str) -> None:
        await self.sio.disconnect(sid)


class DisconnectsBelow(Chat):
    async def close(self, sid: str) -> None:
        await self.sio.eio.disconnect(self.sio.manager.eio_sid_from_sid(sid, "/"))


class LeavesThemConnected(Chat):
    async def close(self, sid: str) -> None: ...


class DoesNotWait(Chat):
    async def finish(self) -> None: ...


class WaitsForEver(Chat):
    patience = None


class WaitsTooLong(Chat):
    patience = 2.7


class TakesEverything(Chat):
    async def __call__(self) -> None:
        await self.finish()
        for sid in sids(self.sio):
            await self.close(sid)


class Silent(Chat):
    late = None


class ForGood(Chat):
    late = CLOSING | {"retry": False}


class CancelsWhatIsInHand(Chat):
    async def finish(self) -> None:
        for task in self.in_hand:
            task.cancel()


class StoresNothing(Chat):
    async def send_message(self, sid: str, data: Any) -> Any:
        return None


class AnswersWhatIsInHandWithNo(Chat):
    async def send_message(self, sid: str, data: Any) -> Any:
        answer = await super().send_message(sid, data)
        return CLOSING if self.leaving else answer


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (not_written, "`add_chat` gives nothing back yet"),
        (gives_no_function, "give back the function `stop`"),
        (StoresNothing, "before anybody stopped anything"),
        (Disconnects, "DISCONNECT tells a client to stay away"),
        (DisconnectsBelow, "DISCONNECT tells a client to stay away"),
        (LeavesThemConnected, "still had a connection"),
        (DoesNotWait, "its sender never got an answer"),
        (CancelsWhatIsInHand, "wait until what is in hand has been answered"),
        (AnswersWhatIsInHandWithNo, "store it and say so"),
        (WaitsForEver, "wait for a second at most"),
        (WaitsTooLong, "wait for a second at most"),
        (TakesEverything, "remember that the server is leaving"),
        (Silent, "was answered with `None`"),
        (ForGood, '"retry": True'),
    ],
)
async def test_a_server_that_takes_something_along_is_told_what(answer: Any, advice: str) -> None:
    result = await ex06.goes_without_a_loss(answer)
    assert not result.done
    assert advice in result.advice


async def test_a_server_that_is_blocked_while_it_waits_is_told_so() -> None:
    released = threading.Event()

    class Blocks(Chat):
        async def finish(self) -> None:
            while self.in_hand and not released.wait(0.05):
                pass

    try:
        result = await ex06.goes_without_a_loss(Blocks)
    finally:
        released.set()
    assert "wait for a second at most" in result.advice


# -- task 3 ----------------------------------------------------------------------------------------


def checker(
    *,
    only_acked: bool = True,
    sender_too: bool = False,
    late_comers: bool = False,
    those_who_left: bool = False,
    only_who_was_there: bool = False,
    twice: bool = True,
    attempts: bool = False,
) -> Any:
    """A right answer to the stretch; each argument makes it a wrong one."""

    def find_faults(history: Any) -> Any:
        lost, keys = set(), {}
        for place, (what, who, key) in enumerate(history):
            if what == "sends":
                keys.setdefault(key, (place, who))
        for key, (place, sender) in keys.items():
            if only_acked and not any(what == "acked" and k == key for what, _, k in history):
                continue
            until = len(history) if late_comers else place
            owed = {who for what, who, _ in history[:until] if what == "joins"}
            if only_who_was_there:
                owed &= _here(history[:place])
            if not those_who_left:
                owed &= _here(history)
            lost |= {
                (key, who)
                for who in owed
                if ("sees", who, key) not in history and (sender_too or who != sender)
            }
        seen = [(key, who) for what, who, key in history if what == "sees"]
        double = {pair for pair in seen if seen.count(pair) > 1} if twice else set()
        if attempts:
            sent = [(key, who) for what, who, key in history if what == "sends"]
            double |= {pair for pair in sent if sent.count(pair) > 1}
        return {"lost": lost, "duplicated": double}

    return find_faults


def _here(history: Any) -> set[str]:
    here: set[str] = set()
    for what, who, _ in history:
        if what == "joins":
            here.add(who)
        elif what == "leaves":
            here.discard(who)
    return here


def in_one_pass(history: Any) -> Any:
    """Another right answer."""
    ever: dict[str, None] = {}
    here: set[str] = set()
    due: dict[str, list[str]] = {}
    acked: list[str] = []
    seen: list[list[str]] = []
    twice = []
    for what, who, key in history:
        match what:
            case "joins":
                ever[who] = None
                here.add(who)
            case "leaves":
                here.remove(who)
            case "sends":
                due.setdefault(key, [name for name in ever if name != who])
            case "acked":
                acked.append(key)
            case "sees" if [key, who] in seen:
                twice.append((key, who))
            case "sees":
                seen.append([key, who])
    lost = [(k, who) for k in acked for who in due[k] if [k, who] not in seen and who in here]
    return {"lost": lost, "duplicated": twice}


@pytest.mark.parametrize("answer", [checker(), in_one_pass])
def test_a_checker_may_look_in_any_way(answer: Any) -> None:
    result = ex06.finds_what_is_wrong(answer)
    assert result.done, result.advice


def not_yet(history: Any) -> Any: ...


def a_list(history: Any) -> Any:
    return [("m1", "bob")]


def only_keys(history: Any) -> Any:
    return {"lost": {key for key, _ in checker()(history)["lost"]}, "duplicated": set()}


def finds_nothing(history: Any) -> Any:
    return {"lost": set(), "duplicated": set()}


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (not_yet, "`find_faults` gives nothing back yet"),
        (a_list, "a dictionary with `lost` and `duplicated`"),
        (only_keys, "make it a set of pairs"),
        (finds_nothing, "that is what lost means"),
        (checker(only_acked=False), "without an ack nobody was promised anything"),
        (checker(sender_too=True), "whoever sent it has the ack"),
        (checker(late_comers=True), "who came later need not see"),
        (checker(those_who_left=True), "may have gone before it came"),
        (checker(only_who_was_there=True), "who had joined before and is back at the end"),
        (checker(twice=False), "count how often each one saw each message"),
        (checker(attempts=True), "sending again is no fault"),
    ],
)
def test_a_checker_that_errs_is_told_where(answer: Any, advice: str) -> None:
    result = ex06.finds_what_is_wrong(answer)
    assert not result.done
    assert advice in result.advice
