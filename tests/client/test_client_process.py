"""The client and a server that is killed, or told to finish, and started again on its file."""

import asyncio

import pytest

from chatlab import events
from chatlab.lab.process import process
from tests.client.helpers import take, token_for
from tests.waiting import until


@pytest.fixture
def child(tmp_path):
    """The real server as a process, with its messages in a file."""
    from tests.client.helpers import SECRET

    storage = f"sqlite:///{tmp_path / 'chat.db'}"
    arguments = ["--storage", storage, "--no-limits"]
    server = process(*arguments, name="client tests", env={"CHATLAB_JWT_SECRET": SECRET})
    yield server
    server.stop()


async def talk(client, name, count):
    for number in range(count):
        await client.send(f"{name} {number}")
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("end", ["kill", "terminate"])
async def test_the_streams_go_on_without_gap_or_repeat_after_a_restart(child, client_of, end):
    alice = await client_of(child, timeout=5, retries=100).connect()
    bob = await client_of(child, token_for("bob"), timeout=5, retries=100).connect()
    clients, count = (alice, bob), 100
    for client in clients:
        await client.join("general")
    streams, heard = [client.messages() for client in clients], alice.events()
    talking = asyncio.gather(talk(alice, "alice", count), talk(bob, "bob", count))
    seen = await take(streams[0], 40)
    getattr(child, end)()
    await child.exited()
    await asyncio.to_thread(child.restart)
    await talking
    seen += await take(streams[0], 2 * count - 40, timeout=10)
    assert await take(streams[1], 2 * count) == seen
    for name in ("alice", "bob"):
        assert [text for text in seen if text.startswith(name)] == [
            f"{name} {number}" for number in range(count)
        ]
    page = await alice.history("general", after=0, limit=200)
    assert [message.text for message in page.messages] == seen
    told = await take(heard, 3 if end == "terminate" else 2)
    assert events.Connected() in told
    assert (events.ServerClosing() in told) == (end == "terminate")
    await until(lambda: alice.connected and bob.connected)


async def test_a_frozen_server_is_waited_for(child, client_of):
    alice = await client_of(child, timeout=0.5, retries=100).connect()
    await alice.join("general")
    child.freeze()
    sending = asyncio.create_task(alice.send("hello"))
    await until(lambda: not alice.connected)
    child.thaw()
    sent = await sending
    page = await alice.history("general")
    assert [message.text for message in page.messages] == ["hello"]
    assert sent.seq == 1
    assert await take(alice.messages(), 1) == ["hello"]
