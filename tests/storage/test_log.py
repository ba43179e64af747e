"""What every log does, in memory as on disk."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from chatlab.errors import InvalidPayload, SettingsError
from chatlab.settings import Settings
from chatlab.storage import open_storage
from chatlab.storage.base import NEWEST_BYTES, Cursor, json_size
from tests.storage.rooms import Rooms, seqs
from tests.waiting import until


async def test_messages_are_numbered_from_one_without_gap_in_each_room(rooms):
    for number in range(1, 6):
        assert (await rooms.send(room="a")).message.seq == number
        assert (await rooms.send(room="b")).message.seq == number


async def test_appends_are_stored_in_the_order_in_which_they_are_made(rooms):
    sent = [rooms.log.append("general", "alice", str(n), None, "") for n in range(2_500)]
    results = await asyncio.gather(*reversed(sent))
    assert [result.message.seq for result in reversed(results)] == list(range(1, 2_501))
    assert [one.text for one in await rooms.everything()] == [str(n) for n in range(2_500)]


async def test_an_append_nobody_waits_for_is_stored_all_the_same(rooms):
    rooms.log.append("general", "alice", "unattended", None, "")
    assert (await rooms.send("second")).message.seq == 2


async def test_the_message_is_what_was_sent_with_an_id_and_a_time(rooms):
    message = (await rooms.send("Grüße 👋", room="café", user="zoë")).message
    assert (message.room, message.user, message.text) == ("café", "zoë", "Grüße 👋")
    assert re.fullmatch(r"[0-9a-f]{32}", message.id)
    assert message.timestamp == "2027-01-15T08:00:00.000Z"
    assert (await rooms.page("café")).messages == [message]


@pytest.mark.parametrize("text", ["nul \0 within", "\u2028", "\x7f", '"\\"', "\U0010ffff", "ﷺ" * 9])
async def test_text_comes_back_as_it_went_in(rooms, text):
    await rooms.send(text, room=text[:64], user=text, key=text)
    assert (await rooms.join(text[:64])).messages[0].text == text
    assert (await rooms.send(text, room=text[:64], user=text, key=text)).duplicate


async def test_what_utf8_cannot_hold_is_refused_and_harms_nobody_else(rooms):
    lone = "\ud800"
    refused = [
        rooms.log.append(*arguments, "")
        for arguments in (
            (lone, "alice", "hello", None),
            ("general", lone, "hello", None),
            ("general", "alice", lone, None),
            ("general", "alice", "hello", lone),
        )
    ]
    good = rooms.log.append("general", "alice", "hello", None, "")
    for future in refused:
        with pytest.raises(InvalidPayload):
            await future
    assert (await good).message.seq == 1
    for asked in (rooms.join(lone), rooms.page(lone), rooms.mark(lone, read=1)):
        with pytest.raises(InvalidPayload):
            await asked


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_the_feed_has_the_message_before_the_sender_knows(rooms):
    seen = []
    future = rooms.log.append("general", "alice", "hello", None, "socket 1")
    future.add_done_callback(lambda _: seen.append(len(rooms.fed["general"])))
    message = (await future).message
    await asyncio.sleep(0)
    assert seen == [1]
    assert [(one.message, one.origin) for one in rooms.fed["general"]] == [(message, "socket 1")]


async def test_a_feed_that_fails_takes_nothing_with_it(rooms, caplog):
    def broken(room, deliveries):
        raise RuntimeError("a bug in the server")

    rooms.log.feed = broken
    assert (await rooms.send()).message.seq == 1
    await until(lambda: "the feed of room 'general' failed" in caplog.text)


# --- keys --------------------------------------------------------------------------------------


async def test_a_retry_with_the_same_key_is_answered_with_the_first_message(rooms):
    first = await rooms.send("hello", key="k")
    await rooms.send("another")
    assert await rooms.fed_with(2)
    await rooms.again()
    again = await rooms.send("hello", key="k")
    assert again.message == first.message
    assert (first.duplicate, again.duplicate) == (False, True)
    assert await rooms.fed_with(2)


async def test_retries_that_overtake_the_first_answer_are_one_message(rooms):
    sent = [rooms.log.append("general", "alice", "hello", "k", "") for _ in range(5)]
    results = await asyncio.gather(*sent)
    assert [result.duplicate for result in results] == [False, True, True, True, True]
    assert {result.message.id for result in results} == {results[0].message.id}
    assert await rooms.fed_with(1)


async def test_a_key_with_another_text_is_refused_and_takes_no_number(rooms):
    await rooms.send("hello", key="k")
    with pytest.raises(InvalidPayload) as refused:
        await rooms.send("goodbye", key="k")
    assert refused.value.field == "key"
    assert (await rooms.send("next")).message.seq == 2


async def test_a_key_belongs_to_one_user_in_one_room(rooms):
    await rooms.send("hello", key="k")
    assert not (await rooms.send("other user", user="bob", key="k")).duplicate
    assert not (await rooms.send("other room", room="b", key="k")).duplicate


async def test_a_key_outlives_its_message(kind, store):
    async with Rooms(kind, store, history=3) as rooms:
        first = await rooms.send("hello", key="k")
        await rooms.fill(10)
        assert seqs((await rooms.page()).messages) == [9, 10, 11]
        await rooms.again()
        assert (await rooms.send("hello", key="k")).message == first.message


async def test_a_key_is_forgotten_after_its_time(kind, store):
    async with Rooms(kind, store, key_ttl=60.0) as rooms:
        await rooms.send("hello", key="k")
        rooms.clock.now += 59
        assert (await rooms.send("hello", key="k")).duplicate
        rooms.clock.now += 2
        later = await rooms.send("another text", key="k")
        assert (later.duplicate, later.message.seq) == (False, 2)
        assert (await rooms.send("another text", key="k")).duplicate


async def test_a_key_is_forgotten_after_so_many_messages_of_its_user(kind, store):
    async with Rooms(kind, store, key_messages=10) as rooms:
        await rooms.send("hello", key="k")
        await rooms.fill(100, user="bob")
        await rooms.fill(9)
        assert (await rooms.send("hello", key="k")).duplicate
        await rooms.again()
        await rooms.fill(1)
        assert not (await rooms.send("hello", key="k")).duplicate


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_keys_do_not_pile_up(kind, database):
    async with Rooms(kind, database, key_messages=20, key_ttl=60.0) as rooms:
        for round_ in range(5):
            rooms.clock.now += 61
            sent = [
                rooms.log.append(f"room {n % 7}", f"user {n}", "hello", f"{round_}-{n}", "")
                for n in range(1_000)
            ]
            sent += [
                rooms.log.append("one", "alice", "hello", f"{round_}-{n}", "") for n in range(99)
            ]
            await asyncio.gather(*sent)
        if kind == "memory":
            kept = sum(len(keys.found) for keys in rooms.log._keys.values())
        else:
            kept = await rooms.log.read(
                lambda connection: connection.execute("SELECT count(*) FROM keys").fetchone()[0]
            )
        assert 1_000 <= kept < 2_500


# --- reading -----------------------------------------------------------------------------------


async def test_a_join_is_told_the_newest_messages(rooms):
    await rooms.fill(60)
    snapshot = await rooms.join(newest=50)
    assert (snapshot.seq, snapshot.more, snapshot.lost) == (60, True, False)
    assert seqs(snapshot.messages) == list(range(11, 61))
    assert not (await rooms.join(newest=60)).more


async def test_an_empty_room_has_an_epoch_that_its_first_message_keeps(rooms):
    empty = await rooms.join()
    assert (empty.seq, empty.messages, empty.more, empty.lost) == (0, [], False, False)
    await rooms.send()
    await rooms.again()
    after = await rooms.join(after=0, epoch=empty.epoch)
    assert (after.epoch, after.lost, seqs(after.messages)) == (empty.epoch, False, [1])
    assert (await rooms.join("another")).epoch != empty.epoch
    assert (await rooms.page()).epoch == empty.epoch


async def test_who_comes_back_is_told_what_they_missed(rooms):
    await rooms.fill(30)
    snapshot = await rooms.join(after=10, limit=15)
    assert seqs(snapshot.messages) == list(range(11, 26))
    assert (snapshot.seq, snapshot.more, snapshot.lost) == (30, True, False)
    snapshot = await rooms.join(after=25)
    assert (seqs(snapshot.messages), snapshot.more) == ([26, 27, 28, 29, 30], False)
    snapshot = await rooms.join(after=30)
    assert (snapshot.messages, snapshot.more, snapshot.lost) == ([], False, False)


@pytest.mark.parametrize("after", [31, 2**53 - 1])
async def test_who_has_seen_more_than_there_is_has_lost_history(rooms, after):
    await rooms.fill(30)
    snapshot = await rooms.join(after=after)
    assert (snapshot.lost, len(snapshot.messages)) == (True, 30)


async def test_another_epoch_is_lost_history_even_without_after(rooms):
    await rooms.fill(3)
    assert (await rooms.join(after=1, epoch="another")).lost
    assert (await rooms.join(epoch="another")).lost


async def test_who_was_away_for_longer_than_history_reaches_back_has_lost_some(kind, store):
    async with Rooms(kind, store, history=100) as rooms:
        await rooms.fill(150)
        assert not (await rooms.join(after=50)).lost
        lost = await rooms.join(after=49)
        assert (lost.lost, seqs(lost.messages)) == (True, list(range(101, 151)))


async def test_history_keeps_as_many_messages_as_it_should_and_no_more(kind, store):
    async with Rooms(kind, store, history=100) as rooms:
        for _ in range(5):
            await rooms.fill(77)
            assert seqs(await rooms.everything())[0] == max(1, (await rooms.join()).seq - 99)
        oldest = await rooms.page(after=0, limit=10)
        assert seqs(oldest.messages) == list(range(286, 296))
        assert not (await rooms.page(before=296, limit=10)).more
        assert (await rooms.page(before=297, limit=10)).more
        assert (await rooms.page(before=286)).messages == []


async def test_old_messages_leave_the_file_too(database):
    async with Rooms("sqlite", database, history=100) as rooms:
        for _ in range(30):
            await rooms.fill(100)
        kept = await rooms.log.read(
            lambda connection: connection.execute("SELECT count(*) FROM messages").fetchone()[0]
        )
        assert 100 <= kept <= 200
        await rooms.again(history=10)
        await rooms.fill(1)
        assert seqs(await rooms.everything()) == list(range(2_992, 3_002))
        await rooms.again(history=1_000)
        first = (await rooms.everything())[0].seq
        assert not (await rooms.join(after=first - 1)).lost
        assert (await rooms.join(after=first - 2)).lost


async def test_pages_lead_through_the_whole_room_in_both_directions(rooms):
    await rooms.fill(101)
    down, before = [], None
    while True:
        page = await rooms.page(before=before, limit=20)
        down = seqs(page.messages) + down
        if not page.more:
            break
        before = page.messages[0].seq
    assert down == seqs(await rooms.everything()) == list(range(1, 102))


@pytest.mark.parametrize("where", [{"after": 2**60}, {"before": 0}, {"before": 1}, {"after": 3}])
async def test_a_page_beyond_the_end_is_empty(rooms, where):
    await rooms.fill(3)
    page = await rooms.page(**where)
    assert (page.messages, page.more) == ([], False)


async def test_pages_are_bounded_in_bytes_but_never_empty(rooms):
    for text in ("a" * 98, "\n" * 49, "é" * 49, "\x01" * 100, "z"):
        await rooms.send(text)
    assert [json_size(text) for text in ("a" * 98, "\n" * 49, "é" * 49)] == [100, 100, 100]
    up = await rooms.page(after=0, max_bytes=300)
    assert (seqs(up.messages), up.more) == ([1, 2, 3], True)
    assert seqs((await rooms.page(after=0, max_bytes=299)).messages) == [1, 2]
    assert seqs((await rooms.page(after=3, max_bytes=1)).messages) == [4]
    down = await rooms.page(before=6, max_bytes=605)
    assert (seqs(down.messages), down.more) == ([4, 5], True)
    assert seqs((await rooms.page(max_bytes=604)).messages) == [5]
    caught_up = await rooms.join(after=1, max_bytes=200)
    assert (seqs(caught_up.messages), caught_up.more) == ([2, 3], True)


async def test_a_join_carries_fifty_of_the_longest_messages_but_no_megabyte_of_escapes(rooms):
    for _ in range(50):
        rooms.log.append("long", "alice", "👋" * 4_000, None, "")
        rooms.log.append("odd", "alice", "\x01" * 4_000, None, "")
    await rooms.send("done")
    assert len((await rooms.join("long", max_bytes=1)).messages) == 50
    odd = await rooms.join("odd", max_bytes=1)
    assert odd.more
    assert sum(json_size(one.text) for one in odd.messages) <= NEWEST_BYTES
    assert odd.messages[-1].seq == 50


# --- receipts ----------------------------------------------------------------------------------


async def test_a_cursor_moves_forward_only(rooms):
    await rooms.fill(10)
    assert await rooms.mark(delivered=5) == (Cursor(0, 0), Cursor(5, 0))
    assert await rooms.mark(read=3) == (Cursor(5, 0), Cursor(5, 3))
    assert await rooms.mark(delivered=1, read=1) == (Cursor(5, 3), Cursor(5, 3))
    await rooms.again()
    assert await rooms.mark(read=8) == (Cursor(5, 3), Cursor(8, 8))
    assert (await rooms.join(user="bob")).cursor == Cursor(8, 8)
    assert (await rooms.join(user="carol")).cursor == Cursor()


async def test_a_cursor_above_the_newest_message_is_refused(rooms):
    await rooms.fill(10)
    for above in ({"delivered": 11}, {"read": 11}, {"read": 2**53 - 1}):
        with pytest.raises(InvalidPayload) as refused:
            await rooms.mark(**above)
        assert refused.value.field == "seq"
    with pytest.raises(InvalidPayload):
        await rooms.mark(room="empty", read=1)
    assert await rooms.mark(room="empty") == (Cursor(), Cursor())
    assert (await rooms.join()).cursor == Cursor()


async def test_a_mark_counts_the_appends_before_it(rooms):
    stored = rooms.log.append("general", "alice", "hello", None, "")
    if rooms.kind == "redis":  # whose appends go their own way, past everything else
        await stored
    assert (await rooms.mark(read=1))[1] == Cursor(1, 1)


# --- opening -----------------------------------------------------------------------------------

SECRET = "s" * 32


async def test_the_url_says_which_log(database):
    memory = open_storage(Settings(storage="memory://", jwt_secret=SECRET)).log
    sqlite = open_storage(Settings(storage=f"sqlite:///{database}", jwt_secret=SECRET)).log
    assert (memory.name, sqlite.name) == ("memory", "sqlite")
    await sqlite.open()
    assert sqlite.healthy
    assert database.exists()
    await sqlite.close()
    assert not sqlite.healthy


def test_a_relative_url_is_relative_to_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def once():
        log = open_storage(Settings(storage="sqlite:///here.db", jwt_secret=SECRET)).log
        await log.open()
        await log.close()

    asyncio.run(once())
    assert [path.name for path in Path().iterdir()] == ["here.db"]


@pytest.mark.parametrize("url", ["sqlite:///", "sqlite:///:memory:", "sqlite:///folder/"])
def test_a_url_that_names_no_file_is_refused_with_a_sentence(url):
    with pytest.raises(SettingsError, match="names no file"):
        open_storage(Settings(storage=url, jwt_secret=SECRET))
