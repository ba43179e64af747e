"""What the fuzzer has found, one script each, so that it stays mended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz.frames import BINARY, CLOSE, CONTINUATION, PING, TEXT, Frame
from tests.fuzz.rounds import OPTIONS, SETTLE
from tests.fuzz.script import (
    Bytes,
    Cut,
    Frames,
    Meanwhile,
    Open,
    Poll,
    Request,
    Say,
    Script,
    Upgrade,
)
from tests.fuzz.target import Target

HOST = (("Host", "localhost"),)
PACKED = (*HOST, ("Content-Encoding", "gzip"))
CONNECT = '40{"token":"{token}"}'
JOIN = '421["join-room","general"]'

FOUND: dict[str, tuple[str, Script]] = {
    "a poll whose client leaves": (
        "chat",
        (Open(0, "polling"), Poll(0)),
    ),
    "two polls at a time": (
        "chat",
        (Open(0, "polling"), Say(0, (CONNECT, JOIN)), Poll(0), Poll(0)),
    ),
    "a socket that ends while it joins": (
        "chat",
        (
            Open(0),
            Say(0, (CONNECT, JOIN, '422["join-room","fuzz"]', "4zzz")),
            Open(1),
            Say(1, (CONNECT, *(f'42{n}["join-room","r{n}"]' for n in range(9)), "1")),
            Open(2, early=(CONNECT, JOIN, "41")),
        ),
    ),
    "frames that were sent ahead of an upgrade that is refused": (
        "chat",
        (Open(0), Say(0, (CONNECT, "42[]")), Upgrade(0, early=True)),
    ),
    "frames that were sent ahead of the answer to the handshake": (
        "chat",
        (Open(0, early=(CONNECT, JOIN, '422["who",{"room":"general"}]')), Meanwhile()),
    ),
    "a refused body that never comes": (
        "chat",
        (
            Open(0, "polling"),
            Request("PUT", "?EIO=4&transport=polling&sid={sid0}", HOST, b"4", "beyond"),
        ),
    ),
    "a body that says it is compressed and is not": (
        "chat",
        (
            Open(0, "polling"),
            *(
                Request(method, f"?EIO=4&transport=polling{sid}", PACKED, b"40")
                for method, sid in (("GET", ""), ("GET", "&sid={sid0}"), ("PUT", "&sid={sid0}"))
            ),
        ),
    ),
    "a body of the session that never comes": (
        "chat",
        (
            Open(0, "polling"),
            Request("POST", "?EIO=4&transport=polling&sid={sid0}", HOST, b"4", "beyond"),
        ),
    ),
    "two bodies of one session at a time": (
        "chat",
        (
            Open(0, "polling"),
            Request(
                "POST", "?EIO=4&transport=polling&sid={sid0}", HOST, CONNECT.encode(), "beyond"
            ),
            Say(0, (CONNECT,)),
        ),
    ),
    "a connection cut in the middle of an upgrade": (
        "chat",
        (
            Open(0, "polling"),
            Say(0, (CONNECT, JOIN)),
            Poll(0),
            Upgrade(0, ("2probe",)),
            Cut(0, "abort"),
        ),
    ),
    "a control frame between the fragments of a message, and one too long": (
        "chat",
        (
            Open(0),
            Frames(0, (Frame(TEXT, b"4", fin=False), Frame(PING, b"x"), Frame(CONTINUATION, b"0"))),
            Frames(0, (Frame(PING, b"x" * 126),), pieces=5),
        ),
    ),
    "half a character, a frame of a lying length, a reserved close code": (
        "suite",
        (
            Open(0),
            Frames(0, (Frame(TEXT, b"4\xed\xa0\x80"),)),
            Open(1),
            Frames(1, (Frame(TEXT, b"4", claims=2**63, width=9),)),
            Open(2),
            Frames(2, (Frame(CLOSE, (1005).to_bytes(2, "big")),)),
        ),
    ),
    "attachments that do not come, and bytes that nobody claimed": (
        "suite",
        (
            Open(0),
            Say(0, ("40", '4510-["message",{"_placeholder":true,"num":0}]', b"one")),
            Open(1),
            Say(1, ("40",)),
            Frames(1, (Frame(BINARY, b"unclaimed"),)),
            Open(2),
            Bytes(2, b"\x00" * 20),
        ),
    ),
}


@pytest.fixture(scope="module")
def targets() -> Iterator[dict[str, Target]]:
    """Both kinds of servers, in asyncio's debug mode."""
    with (
        Target("chat", debug=True, **OPTIONS["chat"]) as chat,
        Target("suite", debug=True, **OPTIONS["suite"]) as suite,
    ):
        chat.warm_up()
        suite.warm_up()
        yield {"chat": chat, "suite": suite}


@pytest.mark.parametrize("name", FOUND)
def test_the_server_takes(name: str, targets: dict[str, Target]) -> None:
    kind, script = FOUND[name]
    targets[kind].check(script, settle=SETTLE)
