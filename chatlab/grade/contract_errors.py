"""The level Contract, error handling: every refusal has its code, and names the field."""

from __future__ import annotations

from typing import Any, Final

from chatlab.grade.client import Client
from chatlab.grade.judge import must, must_say_no, must_say_yes
from chatlab.grade.promise import ERRORS, Level, Silent, promise
from chatlab.grade.target import Target

_CONTRACT = Level.CONTRACT
_WRONG: Final[tuple[tuple[str, dict[str, Any], str], ...]] = (
    ("send-message", {"text": True}, "text"),
    ("send-message", {}, "text"),
    ("send-message", {"text": "hi", "key": 5}, "key"),
    ("send-message", {"text": "hi", "key": ""}, "key"),
    ("send-message", {"text": "hi", "key": "k" * 65}, "key"),
    ("join-room", {"room": 5}, "room"),
    ("join-room", {}, "room"),
    ("history", {"room": "ROOM", "limit": 0}, "limit"),
    ("history", {"room": "ROOM", "limit": 201}, "limit"),
    ("history", {"room": "ROOM", "after": -1}, "after"),
    ("mark-read", {"room": "ROOM", "seq": "1"}, "seq"),
    ("mark-read", {"room": "ROOM", "seq": True}, "seq"),
    ("typing", {"room": "ROOM", "typing": 1}, "typing"),
    ("refresh-token", {}, "token"),
)


@promise(
    "field-named",
    ERRORS,
    _CONTRACT,
    "A missing field, or one of the wrong type, is `invalid_payload`, and `field` names it.",
    users=1,
    needs=("send-acked",),
)
async def field_named(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0)
    for event, payload, field in _WRONG:
        sent = {key: room if value == "ROOM" else value for key, value in payload.items()}
        what = f"`{event}` with {payload}"
        ack = await _asked(alice, what, event, sent)
        must_say_no(ack, what, code="invalid_payload", retry=False, field=field)


@promise(
    "unknown-field",
    ERRORS,
    _CONTRACT,
    "An unknown field is `invalid_payload`, and `field` names it.",
    users=1,
    needs=("send-acked",),
)
async def unknown_field(target: Target) -> None:
    (alice,) = await target.joined(target.room(), 0)
    ack = await alice.ask("send-message", {"text": "hi", "color": "red"})
    must_say_no(ack, "an unknown field", code="invalid_payload", retry=False, field="color")


@promise(
    "no-half-characters",
    ERRORS,
    _CONTRACT,
    "A text that cannot be encoded as UTF-8 (a lone surrogate) is `invalid_payload`.",
    users=1,
    needs=("send-acked",),
)
async def no_half_characters(target: Target) -> None:
    (alice,) = await target.joined(target.room(), 0)
    ack = await alice.ask("send-message", {"text": "half \ud800 a pair"})
    must_say_no(ack, "a lone surrogate", code="invalid_payload", retry=False, field="text")


@promise(
    "no-overflow",
    ERRORS,
    _CONTRACT,
    "A number that overflows is `invalid_payload`.",
    users=1,
    needs=("send-acked",),
)
async def no_overflow(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0)
    await alice.raw(f'4277["mark-read",{{"room":"{room}","seq":1e999}}]')
    must_say_no(await alice.answer(77), "a `seq` of 1e999", code="invalid_payload", retry=False)
    ack = await alice.ask("mark-read", {"room": room, "seq": 2**70})
    must_say_no(ack, "a `seq` of 2^70", code="invalid_payload", retry=False)


@promise(
    "empty-message-code",
    ERRORS,
    _CONTRACT,
    "An empty message is `empty_message`, after trimming Unicode white space and U+FEFF.",
    users=1,
    needs=("empty-refused",),
)
async def empty_message_code(target: Target) -> None:
    (alice,) = await target.joined(target.room(), 0)
    for text in ("", "\u2003\u00a0\n", "\ufeff"):
        ack = await alice.ask("send-message", {"text": text})
        must_say_no(ack, f"the text {text!r}", code="empty_message", retry=False)


@promise(
    "message-too-long",
    ERRORS,
    _CONTRACT,
    "A message over 4,000 code points, counted after trimming, is `message_too_long`.",
    users=1,
    needs=("send-acked",),
)
async def message_too_long(target: Target) -> None:
    (alice,) = await target.joined(target.room(), 0)
    longest = "\U0001f40d" * 4000
    ack = await alice.ask("send-message", {"text": f"  {longest}  "})
    must_say_yes(ack, "a message of 4,000 code points")
    ack = await alice.ask("send-message", {"text": longest + "!"})
    must_say_no(ack, "a message of 4,001 code points", code="message_too_long", retry=False)


@promise(
    "room-names",
    ERRORS,
    _CONTRACT,
    "A room's name is 1-64 characters, no control characters, no surrounding space; else "
    "`invalid_room`.",
    users=1,
    needs=("join-acked",),
)
async def room_names(target: Target) -> None:
    alice = await target.enter(0)
    for room in ("", "x" * 65, "a\nb", "a\u0085b", " a", "a "):
        for payload in (room, {"room": room}):
            ack = await _asked(alice, f"the room {room!r}", "join-room", payload)
            must_say_no(ack, f"the room {room!r}", code="invalid_room", retry=False)
    room = (target.room() + "é" * 64)[:64]
    must_say_yes(await alice.ask("join-room", room), "a room's name of 64 characters")


@promise(
    "not-in-room",
    ERRORS,
    _CONTRACT,
    "Sending, reading or reporting without having joined is `not_in_room`.",
    needs=("send-acked",),
)
async def not_in_room(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0)
    await alice.say("hello")
    bob = await target.enter(1)
    events: list[tuple[str, dict[str, Any]]] = [
        ("send-message", {"text": "hi"}),
        ("send-message", {"text": "hi", "room": room}),
        ("history", {"room": room}),
        ("mark-delivered", {"room": room, "seq": 1}),
        ("mark-read", {"room": room, "seq": 1}),
        ("typing", {"room": room, "typing": True}),
        ("who", {"room": room}),
    ]
    for event, payload in events:
        ack = await _asked(bob, f"`{event}` of a stranger", event, payload)
        if isinstance(ack, dict) and ack.get("code") == "unknown_event":
            continue  # judged where the event is
        must_say_no(ack, f"`{event}` of a stranger", code="not_in_room", retry=False)


@promise(
    "unknown-event",
    ERRORS,
    _CONTRACT,
    "An event that does not exist is `unknown_event`.",
    users=1,
    needs=("admits",),
)
async def unknown_event(target: Target) -> None:
    alice = await target.enter(0)
    ack = await _asked(alice, "an unknown event", "make-coffee", {"sugar": 1})
    must_say_no(ack, "an unknown event", code="unknown_event", retry=False)


@promise(
    "error-event",
    ERRORS,
    _CONTRACT,
    "An event without an ack that fails is answered by the event `error {message, code}`.",
    users=1,
    needs=("send-acked",),
    risky=True,
)
async def error_event(target: Target) -> None:
    (alice,) = await target.joined(target.room(), 0)
    await alice.emit("send-message", {"text": ""})
    told = await alice.expect("error")
    wanted = {"message": "Message cannot be empty", "code": "empty_message"}
    given = {name: told.get(name) for name in wanted}
    must(given == wanted, f"`error` said {given}")


@promise(
    "failures-store-nothing",
    ERRORS,
    _CONTRACT,
    "What is refused is neither stored nor sent to anybody.",
    needs=("delivered", "field-named"),
)
async def failures_store_nothing(target: Target) -> None:
    alice, bob = await target.joined(target.room(), 0, 1)
    for payload in ({"text": "no", "color": "red"}, {"text": "no", "key": 5}, {"text": ""}):
        await alice.ask("send-message", payload)
    ack = await alice.say("yes")
    await bob.expect_text("yes")
    must(bob.texts == ["yes"], f"the others received {bob.texts}")
    must(ack.get("seq") == 1, f"the first message that was taken has `seq` {ack.get('seq')!r}")


async def _asked(client: Client, what: str, event: str, payload: Any) -> Any:
    try:
        return await client.ask(event, payload)
    except Silent:
        raise Silent(f"{what} was not answered") from None
