"""Hypothesis strategies for whole scripts: sessions, frames and HTTP requests in any order.

What goes into the packets is `packets.py`'s.
"""

from __future__ import annotations

from hypothesis import strategies as st

from tests.fuzz import script as steps
from tests.fuzz.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame
from tests.fuzz.packets import batches, packets
from tests.fuzz.script import Script, Step

__all__ = ["scripts"]

who = st.sampled_from([0, 0, 0, 1, 1, 2])
CONNECT = '40{"token":"{token}"}'
JOIN = '421["join-room","general"]'
begins = st.sampled_from([(CONNECT, JOIN), (CONNECT, JOIN), (CONNECT,), (CONNECT, "40/custom,")])

# --- websocket frames ----------------------------------------------------------------------------

payloads = st.one_of(
    packets.map(lambda p: p if isinstance(p, bytes) else p.encode("utf-8", "surrogatepass")),
    st.sampled_from(
        [
            b"",
            b"4",
            b"\xff",
            b"\xed\xa0\x80",
            b"\xf0\x9f",
            b"\xce\xba\xe1\xbd",
            b'42["message","\xc3',
            b"{over}",
        ]
    ),
)
codes = st.sampled_from(
    [
        0,
        999,
        1000,
        1001,
        1002,
        1003,
        1004,
        1005,
        1006,
        1007,
        1009,
        1011,
        1015,
        2999,
        3000,
        4999,
        5000,
        65535,
    ]
)
closes = st.one_of(
    st.builds(lambda code, reason: code.to_bytes(2, "big") + reason, codes, st.just(b"")),
    st.builds(
        lambda code, reason: code.to_bytes(2, "big") + reason,
        codes,
        st.sampled_from([b"bye", b"\xff", b"x" * 123, b"x" * 124]),
    ),
    st.sampled_from([b"", b"\x03"]),
)
proper = st.one_of(
    st.builds(Frame, st.just(TEXT), payloads),
    st.builds(Frame, st.sampled_from([PING, PONG]), st.binary(max_size=5)),
    st.builds(Frame, st.just(BINARY), payloads),
)
odd = st.one_of(
    st.builds(Frame, st.just(CLOSE), closes),
    st.builds(Frame, st.sampled_from([PING, PONG, CLOSE]), st.just(b"x" * 126)),
    st.builds(Frame, st.sampled_from([PING, CLOSE]), st.just(b""), fin=st.just(False)),
    st.builds(Frame, st.integers(0, 15), payloads, fin=st.booleans(), rsv=st.integers(0, 7)),
    st.builds(Frame, st.just(TEXT), payloads, masked=st.just(False)),
    st.builds(
        Frame,
        st.sampled_from([TEXT, BINARY, PING]),
        payloads,
        claims=st.sampled_from(
            [0, 1, 5, 125, 65_535, 65_536, 65_537, 2**31, 2**62, 2**63, 2**64 - 1]
        ),
        width=st.sampled_from([0, 0, 9]),
    ),
    st.builds(Frame, st.just(TEXT), st.just(b"2"), width=st.sampled_from([3, 9])),
    st.builds(Frame, st.just(TEXT), payloads, cut=st.integers(0, 8)),
)


@st.composite
def _fragmented(draw: st.DrawFn) -> tuple[Frame, ...]:
    """One message in fragments, perhaps with something between them, allowed or not."""
    payload = draw(payloads)
    at = sorted(draw(st.lists(st.integers(0, len(payload)), min_size=1, max_size=4)))
    parts = [payload[start:end] for start, end in zip([0, *at], [*at, None], strict=True)]
    frames = [
        Frame(CONTINUATION if number else TEXT, part, fin=number == len(parts) - 1)
        for number, part in enumerate(parts)
    ]
    if draw(st.booleans()):
        frames.insert(draw(st.integers(0, len(frames))), draw(st.one_of(proper, odd)))
    if draw(st.sampled_from([True, True, True, False])):
        frames.append(Frame(TEXT, b'422["who",{"room":"general"}]'))
    return tuple(frames)


frames = st.one_of(
    st.lists(proper, min_size=1, max_size=6).map(tuple),
    st.lists(st.one_of(proper, odd), min_size=1, max_size=6).map(tuple),
    _fragmented(),
)

# --- HTTP ----------------------------------------------------------------------------------------

sids = st.sampled_from(
    ["&sid={sid0}", "&sid={sid0}", "&sid={sid1}", "&sid={sid2}", "&sid=nope", "&sid=", ""]
)
queries = st.builds(
    "?{}{}{}{}".format,
    st.sampled_from(["EIO=4", "EIO=4", "EIO=4", "EIO=4", "EIO=3", "EIO=", "", "EIO=4&EIO=3"]),
    st.sampled_from(["&transport=polling"] * 4 + ["&transport=websocket", "", "&transport=x"]),
    sids,
    st.sampled_from(
        ["", "", "", "&t=abc", "&b64=1", "&j=0", "&%zz", "&a=%00", "&\ud800", "&x={long}"]
    ),
)
methods = st.sampled_from(
    [
        "GET",
        "POST",
        "POST",
        "POST",
        "PUT",
        "DELETE",
        "OPTIONS",
        "HEAD",
        "PATCH",
        "BREW",
        "get",
        "P\x00",
    ]
)
headers = st.one_of(
    st.just((("Host", "localhost"),)),
    st.just((("Host", "localhost"),)),
    st.lists(
        st.sampled_from(
            [
                ("Host", "localhost"),
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                ("Connection", "close"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Version", "99"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("Sec-WebSocket-Key", "short"),
                ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
                ("Sec-WebSocket-Protocol", "chat, superchat"),
                ("Origin", "http://localhost"),
                ("Origin", "http://elsewhere.example"),
                ("Origin", "null"),
                ("Expect", "100-continue"),
                ("Content-Type", "application/octet-stream"),
                ("Content-Type", "text/plain; charset=nonsense"),
                ("Content-Encoding", "gzip"),
                ("Content-Length", "-1"),
                ("Content-Length", "x"),
                ("X-Forwarded-For", "1.2.3.4, not-an-address"),
                ("X-Forwarded-Host", "elsewhere.example"),
                ("Cookie", "io={sid0}"),
                ("X", "é\x7f"),
                ("Bad Name", "x"),
            ]
        ),
        max_size=6,
    ).map(tuple),
)
http_bodies = st.one_of(
    batches.map(
        lambda batch: b"\x1e".join(
            p if isinstance(p, bytes) else p.encode("utf-8", "surrogatepass") for p in batch
        )
    ),
    st.sampled_from(
        [b"", b"\x1e", b"\x1e\x1e4", b"\xff\xfe", b"d=4", b"1", b"{over}", b"6\x1e" * 2000]
    ),
)
requests = st.builds(
    steps.Request,
    methods,
    queries,
    headers,
    http_bodies,
    st.sampled_from(["length", "length", "length", "chunked", "short", "beyond", "both", "none"]),
    st.integers(1, 4),
)

# Right in everything but what is in them.
posts = st.builds(
    steps.Request,
    st.just("POST"),
    st.sampled_from([f"?EIO=4&transport=polling&sid={{sid{number}}}" for number in (0, 0, 1, 2)]),
    st.just((("Host", "localhost"),)),
    http_bodies,
    st.sampled_from(["length", "length", "chunked", "short"]),
    st.integers(1, 4),
)

# --- scripts -------------------------------------------------------------------------------------

upgrades = st.builds(
    steps.Upgrade,
    who,
    st.one_of(
        st.just(("2probe", "5")),
        st.just(("2probe", "5")),
        st.sampled_from(
            [(), ("2probe",), ("5",), ("2", "5"), ("2probe", "2probe", "5"), ("2probe", "5", "5")]
        ),
        batches,
    ),
    st.booleans(),
)
opens: st.SearchStrategy[Step] = st.builds(
    steps.Open,
    who,
    st.sampled_from(["websocket", "websocket", "polling"]),
    st.one_of(st.just(()), st.just((CONNECT, JOIN)), batches),
    st.booleans(),
)
says: st.SearchStrategy[Step] = st.builds(
    steps.Say, who, batches, st.sampled_from([False, False, False, True])
)
anything: st.SearchStrategy[Step] = st.one_of(
    says,
    says,
    says,
    st.builds(steps.Say, who, begins),
    st.builds(steps.Frames, who, frames, st.sampled_from([1, 1, 2, 5])),
    st.builds(steps.Frames, who, frames, st.sampled_from([1, 1, 2, 5])),
    st.builds(steps.Bytes, who, st.binary(max_size=20)),
    st.builds(steps.Poll, who),
    st.builds(steps.Poll, who),
    upgrades,
    upgrades,
    requests,
    requests,
    posts,
    posts,
    opens,
    st.builds(steps.Cut, who, st.sampled_from(["end", "abort", "leave"])),
    st.builds(steps.Deaf, who),
    st.just(steps.Meanwhile()),
)


@st.composite
def _begun(draw: st.DrawFn) -> Script:
    """Sessions that are accepted, one to three, on either transport, and then anything."""
    begun: list[Step] = []
    for number in range(draw(st.integers(1, steps.ACTORS))):
        transport = draw(st.sampled_from(["websocket", "polling"]))
        begun.append(steps.Open(number, transport))
        begun.append(steps.Say(number, draw(begins)))
    return (*begun, *draw(st.lists(anything, min_size=3, max_size=12)))


scripts: st.SearchStrategy[Script] = st.one_of(
    _begun(), _begun(), _begun(), st.lists(anything, min_size=3, max_size=12).map(tuple)
)
