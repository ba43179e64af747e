"""What the wire reads from bytes does not depend on how TCP cut them, and loses none of them."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatlab.lab.frames import MESSAGE_LIMIT, WebSocketParser
from chatlab.lab.http1 import Conversation, HttpParser
from chatlab.lab.packets import decode

SEPARATOR = "\x1e"


class Names:
    def __init__(self):
        self.learned = {}

    def name_for(self, given, session):
        return given or self.learned.get(session) or "user-1"

    def learn(self, session, name):
        self.learned[session] = name


def frame(payload, opcode=1, *, final=True, mask=b"\x01\x02\x03\x04"):
    head = bytes([(0x80 if final else 0) | opcode])
    masked = 0x80 if mask else 0
    if len(payload) < 126:
        head += bytes([masked | len(payload)])
    elif len(payload) < 65536:
        head += bytes([masked | 126]) + len(payload).to_bytes(2, "big")
    else:
        head += bytes([masked | 127]) + len(payload).to_bytes(8, "big")
    if not mask:
        return head + payload
    return head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


def event(name, *args, number=""):
    return f"42{number}{json.dumps([name, *args])}".encode()


def cut(data, places):
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def read(parser, pieces):
    return [unit for piece in pieces for unit in parser.feed(piece)]


def raw(units):
    return b"".join(unit.raw for unit in units)


def named(units):
    return [(seen.packet, seen.name, seen.data, seen.id) for u in units for seen in u.packets]


texts = st.text(max_size=300)
messages = st.lists(
    st.one_of(
        st.builds(lambda t: [frame(event("send-message", {"text": t}, number=7))], texts),
        st.builds(lambda t: [frame(event("typing", t), mask=None)], texts),
        st.just([frame(b"2"), frame(b"", 9), frame(b"bye", 8)]),
        # One message in three frames, with a ping between them.
        st.just(
            [
                frame(b'42["frag', final=False),
                frame(b"ping", 9, mask=None),
                frame(b'mented",', 0, final=False),
                frame(b"1]", 0),
            ]
        ),
        st.just([frame(b'451-["file",{"_placeholder":true,"num":0}]'), frame(b"\x00\xff", 2)]),
    ),
    max_size=6,
).map(lambda parts: b"".join(piece for part in parts for piece in part))


@given(messages, st.lists(st.integers(0, 10_000), max_size=12))
def test_frames_are_read_the_same_however_they_are_cut(data, places):
    whole = read(WebSocketParser(lambda _: None), [data])
    pieces = read(WebSocketParser(lambda _: None), cut(data, places))
    assert named(pieces) == named(whole)
    # A ping inside a message goes ahead of it; otherwise the bytes are in order.
    assert sorted(raw(pieces)) == sorted(data)
    if b"ping" not in data:
        assert raw(pieces) == data


def test_a_message_in_fragments_is_one_event_and_its_attachment_shares_its_fate():
    parser = WebSocketParser(lambda _: None)
    units = parser.feed(
        frame(b'42["frag', final=False)
        + frame(b"", 9)
        + frame(b'mented",1]', 0)
        + frame(b'452-["file",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]')
        + frame(b"a", 2)
        + frame(b"b", 2)
        + frame(b"c", 2)
    )
    assert [(len(u.packets), u.continues, u.control) for u in units] == [
        (0, False, True), (1, False, False), (1, False, False),
        (0, True, False), (0, True, False), (0, False, False),
    ]  # fmt: skip


@pytest.mark.parametrize("step", [1000, 70_000, 10_000_000])
@pytest.mark.parametrize("fragments", [1, 3])
def test_a_long_message_is_streamed_and_known_by_its_beginning(step, fragments):
    body = event("upload", "x" * (3 * MESSAGE_LIMIT))
    size = len(body) // fragments + 1
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    data = b"".join(
        frame(part, 1 if n == 0 else 0, final=n == len(parts) - 1, mask=None)
        for n, part in enumerate(parts)
    ) + frame(event("next", 1))
    parser = WebSocketParser(lambda _: None)
    units, most = [], 0
    for at in range(0, len(data), step):
        units += parser.feed(data[at : at + step])
        most = max(most, len(parser._buffer) + len(parser._held))
    assert raw(units) == data
    assert [(seen.packet, seen.name) for u in units for seen in u.packets] == [
        ("event", "upload"),
        ("event", "next"),
    ]
    assert units[0].packets
    assert all(unit.continues for unit in units[1:-1])
    assert most <= MESSAGE_LIMIT + step + 16


def request(method, body=b"", *, chunked=False, more=""):
    head = (
        f"{method} /socket.io/?EIO=4&transport=polling&sid=abc HTTP/1.1\r\nHost: x\r\n{more}"
        "Accept-Encoding: gzip\r\nX-Lab-Name: alice\r\n"
    ).encode()
    if chunked:
        pieces = [body[i : i + 5] for i in range(0, len(body), 5)]
        coded = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + coded
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


bodies = st.lists(
    st.one_of(
        texts.map(lambda t: event("send-message", {"text": t})),
        st.just(b"3"),
        st.just(b'451-["file",{"_placeholder":true,"num":0}]\x1ebAAEC'),
    ),
    min_size=1,
    max_size=5,
).map(b"\x1e".join)


@given(st.lists(st.tuples(bodies, st.booleans()), max_size=4), st.lists(st.integers(0, 9999)))
def test_requests_are_read_the_same_however_they_are_cut(posts, places):
    data = b"".join(request("POST", body, chunked=chunked) for body, chunked in posts)
    expected = [
        (seen.packet, seen.name, seen.data, seen.id)
        for body, _ in posts
        for text in body.decode().split(SEPARATOR)
        if text.startswith("4") and (seen := decode(text[1:]))
    ]
    for pieces in ([data], cut(data, places)):
        talk = Conversation(Names())
        units = read(HttpParser(talk, requests=True), pieces)
        assert named(units) == expected
        out = raw(units)
        assert b"gzip" not in out
        assert out.count(b"X-Lab-Name: alice") == len(posts)
        for body, _ in posts:
            assert b"Content-Length: %d\r\n\r\n%s" % (len(body), body) in out
        assert talk.name == ("alice" if posts else None)
        assert len(talk.waiting) == len(posts)


def test_some_packets_are_taken_out_of_a_body():
    body = b"\x1e".join(
        [event("a"), b"3", b'451-["file",{"_placeholder":true,"num":0}]', b"bAAEC", event("b")]
    )
    (unit,) = HttpParser(Conversation(Names()), requests=True).feed(request("POST", body))
    assert [seen.name for seen in unit.packets] == ["a", "file", "b"]
    left = unit.without({1})
    assert left.endswith(b'Content-Length: 17\r\n\r\n42["a"]\x1e3\x1e42["b"]')
    (unit,) = HttpParser(Conversation(Names()), requests=True).feed(request("POST", event("a")))
    assert unit.without({0}) == b""
    assert unit.answer.endswith(b"\r\n\r\nok")


def test_a_poll_whose_packets_are_all_taken_out_is_answered_with_nothing_to_say():
    talk = Conversation(Names())
    HttpParser(talk, requests=True).feed(request("GET"))
    body = event("new-message", 1)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    (unit,) = HttpParser(talk, requests=False).feed(answer)
    assert unit.without({0}).endswith(b"Content-Length: 1\r\n\r\n6")


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=5), st.booleans())
def test_anything_else_passes_as_it_is(data, places, requests):
    junk = b"\x00" + data
    units = read(HttpParser(Conversation(Names()), requests=requests), cut(junk, places))
    assert raw(units) == junk


@given(st.text(max_size=60))
def test_reading_a_packet_never_fails(text):
    decode(text)
    decode("2" + text)
    decode("51-" + text)
    decode('2["name",' + text)
