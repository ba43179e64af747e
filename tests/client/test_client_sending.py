"""What `ChatClient.send` does when the answer is lost, late, or no."""

import asyncio

import pytest

from chatlab.backoff import Backoff
from chatlab.errors import (
    AckTimeout,
    Banned,
    ClientError,
    EmptyMessage,
    Forbidden,
    InternalError,
    NotConnected,
    NotInRoom,
    RateLimited,
    SendFailed,
    Unavailable,
)
from tests.client.helpers import take
from tests.client.scripted import NEVER
from tests.waiting import until


def refused(code, *, retry=False, error="no", **more):
    return {"ok": False, "code": code, "retry": retry, "error": error, **more}


async def test_a_sent_message_is_acknowledged_with_its_place(alice):
    sent = await alice.send("hello")
    assert (sent.seq, sent.duplicate) == (1, False)


async def test_a_lost_ack_is_retried_with_the_same_key_and_stores_one_message(alice, server):
    server.answers["send-message"].append(NEVER)
    sent = await alice.send("hello", timeout=1.0)
    first, second = server.payloads("send-message")
    assert first == second
    assert first["room"] == "general"
    assert (sent.seq, sent.duplicate, len(server.log)) == (1, True, 1)


async def test_the_caller_s_own_key_is_used(alice, server):
    await alice.send("hello", key="mine")
    assert (await alice.send("hello", key="mine")).duplicate
    assert [data["key"] for data in server.payloads("send-message")] == ["mine", "mine"]


async def test_an_ack_that_comes_after_the_time_out_still_puts_the_message_in_its_place(
    alice, server
):
    late = asyncio.Event()
    server.before["send-message"].append(late.wait)
    with pytest.raises(SendFailed):
        await alice.send("late", timeout=0.05, retries=0)
    stream = alice.messages()
    late.set()
    assert await take(stream, 1) == ["late"]
    assert server.payloads("history") == []


async def test_waits_grow_and_never_undercut_what_the_server_asks(server, client_of):
    waits = []

    async def no_sleep(seconds):
        waits.append(round(seconds, 3))

    client = client_of(
        server.url, backoff=Backoff(base=0.2, cap=1.0, random=lambda: 1.0), sleep=no_sleep
    )
    await client.connect()
    await client.join("general")
    server.answers["send-message"].extend(
        [
            refused("unavailable", retry=True),
            refused("rate_limited", retry=True, retryAfter=0.75),
            refused("closing", retry=True),
            refused("unavailable", retry=True),
        ]
    )
    await client.send("hello")
    assert waits == [0.2, 1.15, 0.8, 1.0]


async def test_a_refusal_that_no_retry_helps_is_raised_as_itself(alice, server):
    for code, error in (
        ("empty_message", EmptyMessage),
        ("forbidden", Forbidden),
    ):
        server.answers["send-message"].append(refused(code))
        with pytest.raises(error):
            await alice.send("hello")
    assert len(server.payloads("send-message")) == 2


async def test_giving_up_after_refusals_only_says_that_nothing_was_stored(alice, server):
    server.answers["send-message"].extend([refused("rate_limited", retry=True)] * 3)
    with pytest.raises(SendFailed, match="Not stored: refused in 3 attempts") as caught:
        await alice.send("hello", retries=2)
    assert (caught.value.stored, caught.value.attempts) == (False, 3)
    assert isinstance(caught.value.last, RateLimited)


async def test_giving_up_after_unavailable_says_that_nobody_knows(alice, server):
    server.answers["send-message"].extend(
        [refused("unavailable", retry=True), refused("rate_limited", retry=True)]
    )
    with pytest.raises(SendFailed, match="unknown") as caught:
        await alice.send("hello", key="k1", retries=1)
    assert caught.value.stored is None
    assert "key='k1'" in str(caught.value)


async def test_giving_up_after_a_time_out_says_that_nobody_knows_and_the_key_finds_out(
    alice, server
):
    server.answers["send-message"].append(NEVER)
    with pytest.raises(SendFailed) as caught:
        await alice.send("hello", timeout=0.05, retries=0)
    assert caught.value.stored is None
    assert isinstance(caught.value.last, AckTimeout)
    assert (await alice.send("hello", key=caught.value.key)).duplicate


async def test_an_internal_error_is_not_retried_and_leaves_the_message_unknown(alice, server):
    server.answers["send-message"].append(refused("internal_error"))
    with pytest.raises(SendFailed) as caught:
        await alice.send("hello")
    assert (caught.value.stored, caught.value.attempts) == (None, 1)
    assert isinstance(caught.value.__cause__, InternalError)


async def test_a_final_no_after_an_unknown_attempt_does_not_hide_that_it_is_unknown(alice, server):
    server.answers["send-message"].extend([NEVER, refused("forbidden")])
    with pytest.raises(SendFailed) as caught:
        await alice.send("hello", timeout=0.4)
    assert caught.value.stored is None
    assert isinstance(caught.value.last, Forbidden)


async def test_a_wait_of_more_than_a_minute_is_left_to_the_caller(alice, server):
    server.answers["send-message"].append(refused("rate_limited", retry=True, retryAfter=3600))
    with pytest.raises(SendFailed) as caught:
        await alice.send("hello")
    assert caught.value.last.retry_after == 3600


async def test_an_unknown_code_is_obeyed_by_its_retry_flag(alice, server):
    server.answers["send-message"].append(refused("too_early", retry=True))
    assert (await alice.send("hello")).seq == 1


async def test_an_answer_that_is_not_the_contract_s_is_an_error_and_not_retried(alice, server):
    server.answers["send-message"].append({"ok": True, "id": 7})
    with pytest.raises(SendFailed) as caught:
        await alice.send("hello")
    assert isinstance(caught.value.last, ClientError)
    assert caught.value.stored is None


async def test_without_a_room_nothing_is_sent(server, client_of):
    client = await client_of(server.url).connect()
    with pytest.raises(NotInRoom):
        await client.send("hello")
    assert server.seen == []


async def test_a_retry_goes_to_the_room_of_the_first_attempt(alice, server):
    server.answers["send-message"].append(NEVER)
    sending = asyncio.create_task(alice.send("hello", timeout=1.0))
    await until(lambda: server.payloads("send-message"))
    await alice.join("elsewhere")
    await sending
    assert [data["room"] for data in server.payloads("send-message")] == ["general"] * 2


async def test_a_socket_that_is_no_longer_in_its_room_joins_again_and_sends(alice, server):
    server.answers["send-message"].append(refused("not_in_room"))
    assert (await alice.send("hello")).seq == 1
    assert len(server.payloads("join-room")) == 2


async def test_a_room_that_may_not_be_joined_again_refuses_the_send(alice, server):
    server.answers["join-room"].append(refused("forbidden"))
    server.answers["send-message"].extend([refused("not_in_room")] * 2)
    with pytest.raises(NotInRoom):
        await alice.send("hello")
    assert alice.rooms == ()


async def test_a_connection_cut_before_the_ack_is_made_again_for_the_retry(alice, server):
    server.answers["send-message"].append(NEVER)
    sending = asyncio.create_task(alice.send("hello", timeout=30))
    await until(lambda: server.log)
    server.cut()
    sent = await sending
    assert (sent.seq, sent.duplicate, len(server.log)) == (1, True, 1)
    assert len(server.auths) == 2


async def test_two_silent_time_outs_in_a_row_make_a_new_connection(alice, server):
    server.answers["send-message"].extend([NEVER] * 2)
    await alice.send("hello", timeout=0.4)
    assert len(server.payloads("send-message")) == 3
    assert len(server.auths) == 2


async def test_a_wire_that_still_says_something_is_not_given_up(alice, server):
    server.answers["send-message"].extend([NEVER] * 3)
    sending = asyncio.create_task(alice.send("hello", timeout=0.4))
    while not sending.done():
        await server.say("tick")
        await asyncio.sleep(0.02)
    assert (await sending).duplicate
    assert len(server.auths) == 1


async def test_a_send_in_hand_when_the_client_closes_ends_at_once(alice, server):
    server.answers["send-message"].append(NEVER)
    sending = asyncio.create_task(alice.send("hello", timeout=30))
    await until(lambda: server.log)
    await alice.close()
    with pytest.raises(SendFailed) as caught:
        await sending
    assert caught.value.stored is None
    with pytest.raises(NotConnected, match="closed"):
        await alice.send("more")


async def test_a_ban_ends_the_attempts(alice, server):
    server.answers["send-message"].append(refused("unavailable", retry=True))
    server.before["send-message"].append(lambda: server.tell("banned"))
    server.answers["send-message"].append(NEVER)
    sending = asyncio.create_task(alice.send("hello", timeout=30))
    await until(lambda: len(server.payloads("send-message")) == 2)
    await server.dismiss()
    with pytest.raises(SendFailed) as caught:
        await sending
    assert isinstance(caught.value.last, Banned)
    with pytest.raises(Banned):
        await alice.send("more")


async def test_every_other_call_raises_what_the_server_answered(alice, server):
    server.answers["who"].append(refused("unavailable", retry=True, error="gone fishing"))
    with pytest.raises(Unavailable, match="gone fishing"):
        await alice.who("general")
    assert (await alice.who("general")).count == 2
