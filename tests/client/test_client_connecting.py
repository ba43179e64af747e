"""Who gets in, who comes back, with which token, and who does not."""

import asyncio
import subprocess
import sys

import pytest

from chatlab import events
from chatlab.backoff import Backoff
from chatlab.errors import (
    AuthenticationRequired,
    Banned,
    ClientError,
    ConnectionRefused,
    InvalidToken,
    NotConnected,
    ServerError,
    TokenExpired,
    TooManyConnections,
    Unavailable,
    UserNotFound,
)
from tests.client.helpers import take, token_for
from tests.waiting import until


def refusal(code, *, retry=False, message="no", **more):
    return message, {"code": code, "retry": retry, **more}


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("authentication_required", AuthenticationRequired),
        ("invalid_token", InvalidToken),
        ("token_expired", TokenExpired),
        ("user_not_found", UserNotFound),
        ("banned", Banned),
        ("too_many_connections", TooManyConnections),
        ("server_error", ServerError),
        ("unavailable", Unavailable),
    ],
)
async def test_a_refusal_is_raised_by_connect_and_not_tried_again(server, client_of, code, error):
    server.refusals.append(refusal(code, retry=True, retryAfter=1.5, message="a sentence"))
    with pytest.raises(error, match="a sentence") as caught:
        await client_of(server.url).connect()
    assert type(caught.value) is error
    assert (caught.value.code, caught.value.retry_after) == (code, 1.5)
    assert len(server.auths) == 1


async def test_a_refusal_of_a_newer_server_keeps_its_code(server, client_of):
    server.refusals.append(refusal("phase_of_the_moon"))
    with pytest.raises(ConnectionRefused) as caught:
        await client_of(server.url).connect()
    assert caught.value.code == "phase_of_the_moon"


async def test_a_refused_client_may_try_again(server, client_of):
    server.refusals.append(refusal("unavailable", retry=True))
    client = client_of(server.url)
    with pytest.raises(Unavailable):
        await client.connect()
    assert await client.connect() is client
    assert client.connected
    assert await client.connect() is client
    assert len(server.auths) == 2


async def test_nobody_there_is_said_at_once(client_of, unused_tcp_port):
    with pytest.raises(NotConnected, match="cannot be reached"):
        await client_of(f"http://127.0.0.1:{unused_tcp_port}").connect()


async def test_a_server_that_says_nothing_is_given_up_after_the_timeout(client_of):
    held = []
    silent = await asyncio.start_server(lambda *pair: held.append(pair), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    with pytest.raises(NotConnected, match=r"did not answer within 0\.2 s"):
        await client_of(f"http://127.0.0.1:{port}", timeout=0.2).connect()
    for _, writer in held:
        writer.close()
    silent.close()


async def test_something_that_is_not_a_chat_server_is_said(client_of):
    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        await writer.drain()
        writer.close()

    web = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = web.sockets[0].getsockname()[1]
    for transports in (["websocket"], ["polling"]):
        with pytest.raises(NotConnected, match="cannot be reached"):
            await client_of(f"http://127.0.0.1:{port}", transports=transports).connect()
    web.close()


async def test_calls_before_connect_say_so(server, client_of):
    with pytest.raises(NotConnected, match="connect"):
        await client_of(server.url).who("general")


async def test_polling_and_the_upgrade_work_too(server, client_of):
    for transports in (["polling"], ["polling", "websocket"]):
        client = client_of(server.url, transports=transports)
        await client.connect()
        await client.join("general")
        stream = client.messages()
        sent = await client.send("hello")
        await server.say("there")
        assert await take(stream, 2) == ["hello", "there"]
        assert not sent.duplicate
        await client.close()


async def test_a_polling_client_survives_a_burst_that_its_library_cannot_read(server, client_of):
    # python-engineio 4.15.1 drops the connection when one poll brings more than 16 packets.
    server.most = 200
    client = await client_of(server.url, transports=["polling"]).connect()
    await client.join("general")
    expected = [str(number) for number in range(60)]
    await server.say(*expected)
    assert await take(client.messages(), 60) == expected


async def test_passing_troubles_on_the_way_back_are_sat_out(alice, server):
    server.refusals.extend(
        [
            refusal("unavailable", retry=True),
            refusal("server_error", retry=True),
            refusal("too_many_connections", retry=True, retryAfter=0.05),
        ]
    )
    server.cut()
    await until(lambda: len(server.members) == 1 and len(server.auths) == 5)


async def test_the_way_back_waits_as_the_server_asks(server, client_of):
    waits = []

    async def no_sleep(seconds):
        waits.append(seconds)

    client = await client_of(server.url, sleep=no_sleep).connect()
    server.refusals.append(refusal("too_many_connections", retry=True, retryAfter=7))
    server.cut()
    await until(lambda: len(server.auths) == 3)
    assert waits[0] < 7 <= waits[1]
    assert client.user == "alice"


async def test_a_server_that_drops_everybody_at_once_is_not_hammered(server, client_of):
    waits = []

    async def no_sleep(seconds):
        waits.append(seconds)
        await asyncio.sleep(0)

    backoff = Backoff(base=0.1, cap=100.0, random=lambda: 1.0)
    client = await client_of(server.url, sleep=no_sleep, backoff=backoff).connect()
    for count in range(1, 5):
        server.cut()
        await until(lambda count=count: client.connected and len(server.auths) == count + 1)
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8])


@pytest.mark.parametrize("code", ["banned", "user_not_found", "invalid_token", "token_expired"])
async def test_a_final_refusal_on_the_way_back_ends_the_client(alice, server, code):
    server.refusals.append(refusal(code))
    stream = alice.messages()
    server.cut()
    with pytest.raises(ConnectionRefused) as caught:
        await anext(stream)
    assert caught.value.code == code
    with pytest.raises(ConnectionRefused):
        await alice.send("hello")
    assert len(server.auths) == 2


async def test_the_token_callable_is_asked_for_each_connection(server, client_of):
    tokens = iter(["first", "second"])
    client = await client_of(server.url, lambda: next(tokens)).connect()
    server.cut()
    await until(lambda: client.connected and len(server.auths) == 2)
    assert server.auths == [{"token": "first"}, {"token": "second"}]


async def test_the_token_callable_may_be_async(server, client_of):
    async def fetch():
        await asyncio.sleep(0)
        return token_for("bob")

    client = await client_of(server.url, fetch).connect()
    assert client.user == "bob"


async def test_a_token_callable_that_fails_stops_the_first_connect_and_not_the_way_back(
    server, client_of
):
    answers = [ValueError("the vault is shut"), "first", ValueError("shut again"), "second"]

    def fetch():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    client = client_of(server.url, fetch)
    with pytest.raises(NotConnected, match="ValueError") as caught:
        await client.connect()
    assert "vault" in str(caught.value.__cause__)
    await client.connect()
    server.cut()
    await until(lambda: len(server.auths) == 2)
    assert server.auths[-1] == {"token": "second"}


async def test_an_expired_token_is_fetched_anew_but_not_for_ever(server, client_of):
    fetched = []

    def fetch():
        fetched.append(len(fetched))
        return str(fetched[-1])

    client = await client_of(server.url, fetch).connect()
    server.refusals.extend([refusal("token_expired")] * 2)
    await server.tell("token-expired")
    await server.close_transports()
    await until(lambda: client.connected and len(server.auths) == 4)

    server.refusals.extend([refusal("token_expired")] * 10)
    server.cut()
    with pytest.raises(TokenExpired):
        await anext(client.messages())
    assert len(server.auths) == 7


async def test_without_a_callable_an_expired_token_ends_the_client(alice, server):
    await server.tell("token-expired")
    await server.close_transports()
    with pytest.raises(TokenExpired):
        await anext(alice.messages())
    assert len(server.auths) == 1


async def test_the_token_is_refreshed_before_it_expires(server, client_of):
    tokens = ["first", "second"]
    client = await client_of(server.url, lambda: tokens.pop(0)).connect()
    stream = client.events()
    server.answers["refresh-token"].append(
        {"ok": False, "code": "unavailable", "retry": True, "error": "later"}
    )
    tokens.append("third")
    await server.tell("token-expiring", {"expiresAt": "2026-01-01T00:01:00.000Z"})
    await until(lambda: len(server.payloads("refresh-token")) == 2)
    assert await take(stream, 1) == [events.TokenExpiring("2026-01-01T00:01:00.000Z")]
    assert server.payloads("refresh-token") == [{"token": "second"}, {"token": "third"}]


async def test_a_callable_that_gives_the_same_token_again_is_not_sent_in_circles(server, client_of):
    client = await client_of(server.url, lambda: "always this").connect()
    await server.tell("token-expiring", {"expiresAt": "2026-01-01T00:01:00.000Z"})
    assert (await client.who("general")).count == 2
    assert server.payloads("refresh-token") == []


async def test_a_token_given_by_hand_is_used_on_the_way_back(alice, server):
    await alice.refresh("a newer one")
    server.cut()
    await until(lambda: len(server.auths) == 2)
    assert server.auths[-1] == {"token": "a newer one"}
    with pytest.raises(ClientError, match="Give a token"):
        await alice.refresh()


async def test_a_failed_refresh_changes_nothing(alice, server):
    server.answers["refresh-token"].append(
        {"ok": False, "code": "token_expired", "retry": False, "error": "Invalid token"}
    )
    with pytest.raises(TokenExpired):
        await alice.refresh("stale")
    server.cut()
    await until(lambda: len(server.auths) == 2)
    assert server.auths[0] == server.auths[1]


async def test_typed_events_arrive_in_order(alice, server):
    stream = alice.events()
    await server.tell("user-joined", {"user": "bob", "room": "general"})
    await server.tell("typing", {"user": "bob", "room": "general", "typing": True})
    await server.tell(
        "receipts", {"room": "general", "users": {"bob": {"delivered": 3, "read": 2}}}
    )
    await server.tell("error", {"message": "Slow down.", "code": "rate_limited", "retryAfter": 2})
    await server.tell("user-left", {"user": "bob", "room": "general"})
    assert await take(stream, 5) == [
        events.UserJoined("bob", "general"),
        events.UserTyping("general", "bob", True),
        events.Receipts("general", {"bob": events.Receipt(3, 2)}),
        events.ErrorReported("Slow down.", "rate_limited", 2),
        events.UserLeft("bob", "general"),
    ]


async def test_a_ban_right_after_the_welcome_is_not_overlooked(server, client_of):
    async def ban_at_once(sid, environ, auth):
        asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(tell_and_dismiss(sid)))

    async def tell_and_dismiss(sid):
        await server.sio.emit("banned", to=sid)
        await server.sio.disconnect(sid)

    server.sio.on("connect", ban_at_once)
    client = await client_of(server.url).connect()
    with pytest.raises(Banned):
        await anext(client.messages())


async def test_closing_twice_and_closing_unused_are_both_fine(server, client_of):
    client = client_of(server.url)
    await client.close()
    await client.close()
    with pytest.raises(NotConnected, match="closed"):
        await client.connect()


async def test_a_client_is_a_context_manager(server, client_of):
    async with client_of(server.url) as client:
        assert client.connected
    assert not client.connected


async def test_closing_while_on_the_way_back_ends_it(server, client_of):
    client = await client_of(server.url).connect()
    server.refusals.extend([refusal("unavailable", retry=True)] * 1000)
    server.cut()
    await until(lambda: len(server.auths) > 3)
    await client.close()
    tried = len(server.auths)
    await asyncio.sleep(0.1)
    assert len(server.auths) <= tried + 1


async def test_a_connect_that_is_cancelled_leaves_nothing(client_of):
    held = []
    silent = await asyncio.start_server(lambda *pair: held.append(pair), "127.0.0.1", 0)
    client = client_of(f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}")
    connecting = asyncio.create_task(client.connect())
    await until(lambda: held)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    assert await held[0][0].read() != b"x"  # and the end of the stream
    for _, writer in held:
        writer.close()
    silent.close()


async def test_no_token_shows_in_a_repr_a_log_or_a_recording(server, client_of, caplog):
    caplog.set_level("DEBUG")
    entries = []

    class Recorder:
        def add(self, kind, **fields):
            entries.append((kind, fields))

    token = token_for("alice")
    client = await client_of(server.url, token, recorder=Recorder()).connect()
    await client.refresh(token)
    server.cut()
    await until(lambda: len(server.auths) == 2)
    said = " ".join([repr(client), str(entries), *(r.getMessage() for r in caplog.records)])
    assert token not in said
    assert token.split(".")[2] not in said


async def test_a_recording_tells_what_was_sent_received_missed_and_refused(server, client_of):
    entries = []

    class Recorder:
        def add(self, kind, **fields):
            told = [fields.get(name) for name in ("packet", "name", "id")]
            entries.append((kind, *(part for part in told if part is not None)))
            assert fields["conn"] == "Alice's phone"

    from tests.client.scripted import NEVER

    server.refusals.append(refusal("unavailable", retry=True))
    client = client_of(server.url, name="Alice's phone", recorder=Recorder())
    with pytest.raises(Unavailable):
        await client.connect()
    await client.connect()
    await client.join("general")
    server.answers["send-message"].append(NEVER)
    await client.send("hello", timeout=0.4)
    await server.say("hi")
    await take(client.messages(), 2)
    await client.close()
    assert entries == [
        ("send", "connect"),
        ("receive", "connect_error"),
        ("refused",),
        ("send", "connect"),
        ("receive", "connect"),
        ("connected",),
        ("send", "event", "join-room", 1),
        ("receive", "ack", "join-room", 1),
        ("send", "event", "send-message", 2),
        ("timeout", "event", "send-message", 2),
        ("send", "event", "send-message", 3),
        ("receive", "ack", "send-message", 3),
        ("receive", "event", "new-message"),
        ("disconnected",),
    ]


def test_importing_the_package_is_light_and_the_names_are_there():
    code = (
        "import sys, chatlab; heavy = {'socketio', 'aiohttp', 'msgspec'} & set(sys.modules);"
        "from chatlab import *; import chatlab.client;"
        "assert 'ChatClient' in dir(chatlab) and ChatClient is chatlab.client.ChatClient;"
        "bad = [m for m in sys.modules if m.startswith(('chatlab.lab', 'chatlab.server'))];"
        "sys.exit(f'{heavy} {bad}' if heavy or bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
