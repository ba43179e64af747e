"""A server that is looked at says where its CPU time went, and works as if nobody looked."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import psutil
import pytest

from chatlab.lab import raw_client
from chatlab.lab.profile import PARTS, part_of, profile_chart, profiled

POSIX = pytest.mark.skipif(os.name != "posix", reason="timers of POSIX")


@pytest.mark.parametrize(
    ("part", "stack"),
    [
        ("kernel", ["/lib/python3.13/selectors.py:EpollSelector.select", "/lib/asyncio/x.py:run"]),
        ("kernel", ["/lib/asyncio/selector_events.py:_SelectorSocketTransport.write"]),
        ("event loop", ["/lib/asyncio/base_events.py:BaseEventLoop.call_soon"]),
        ("transport", ["/site-packages/aiohttp/web_protocol.py:RequestHandler.data_received"]),
        ("transport", ["C:\\x\\chatlab\\transport\\session.py:Session.push"]),
        ("packets", ["/lib/json/encoder.py:JSONEncoder.encode", "/x/chatlab/server/app.py:push"]),
        ("packets", ["/site-packages/socketio/packet.py:Packet.decode"]),
        ("validation", ["/x/chatlab/protocol.py:decode", "/x/chatlab/server/app.py:_check"]),
        ("limits", ["/x/chatlab/server/limits.py:spend"]),
        ("log", ["/lib/random.py:randbytes", "/x/chatlab/storage/memory.py:MemoryLog.append"]),
        ("chat", ["<string>:__init__", "/x/chatlab/server/chat.py:Chat.send_message"]),
        ("other", ["/lib/threading.py:Thread.run"]),
        ("other", []),
    ],
)
def test_a_stack_belongs_to_the_innermost_function_that_a_rule_names(
    part: str, stack: list[str]
) -> None:
    assert part_of(stack) == part
    assert part in PARTS


@POSIX
async def test_what_a_server_did_is_sorted_by_parts() -> None:
    server = profiled("--no-limits", name="looked at")
    folder = Path(str(server._folder))
    try:
        async with raw_client(server, auth={"token": server.token("alice")}) as alice:
            assert (await alice.call("join-room", "general", timeout=5))["ok"]
            with pytest.raises(RuntimeError, match="stop it first"):
                server.seconds()
            begun = time.monotonic()
            # It is looked at once in so much CPU time: a few looks say nothing.
            work = psutil.Process(server.pid).cpu_times
            enough = work().user + 0.5
            while work().user < enough:
                assert (await alice.call("send-message", {"text": "hi"}, timeout=5))["ok"]
            ended = time.monotonic()
    finally:
        server.stop()
    talking = server.seconds(begun, ended)
    assert list(talking) == list(PARTS)
    assert min(talking.values()) >= 0
    assert 0 < sum(talking.values()) < ended - begun
    assert talking["other"] < 0.2 * sum(talking.values())
    assert sum(server.seconds().values()) > sum(talking.values())
    assert sum(server.seconds(ended + 60).values()) == 0
    assert server.returncode == 0
    assert not folder.exists()


@POSIX
def test_a_server_that_was_killed_has_written_nothing_down() -> None:
    with profiled(name="killed") as server:
        server.kill()
    with pytest.raises(RuntimeError, match="wrote down nothing"):
        server.seconds()


@POSIX
def test_a_server_that_does_not_start_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(RuntimeError, match="before it was ready"):
        profiled("--no-such-option", name="wrong")
    assert not list(tmp_path.iterdir())


def test_a_profile_is_drawn_with_the_parts_that_took_time() -> None:
    axes = profile_chart(
        {"one": {"kernel": 2.0, "packets": 0.0}, "two": {"kernel": 1.0, "log": 3.5}}, "µs"
    )
    assert [label.get_text() for label in axes.get_yticklabels()] == ["kernel", "log"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "two"]
    plt.close("all")
