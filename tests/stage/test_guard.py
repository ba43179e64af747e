"""The stage's control is for this machine, with the key, from its own page."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.stage.running import OnStage

RESET = {"do": "record"}


async def _ask(stage: OnStage, **headers: str) -> int:
    async with stage.http.post(
        f"{stage.home}/stage/do",
        json=RESET,
        headers={k.replace("_", "-"): v for k, v in headers.items()},
    ) as answer:
        return answer.status


async def test_without_the_key_nothing_can_be_done(stage: OnStage) -> None:
    assert await _ask(stage) == 401
    assert await _ask(stage, Authorization=f"Bearer {stage.key}x") == 401
    assert await _ask(stage, Authorization=f"Basic {stage.key}") == 401
    assert await _ask(stage, Authorization="Bearer ") == 401
    assert await _ask(stage, Authorization=f"Bearer {stage.key}") == 200


async def test_another_page_may_not_ask_even_with_the_key(stage: OnStage) -> None:
    key = f"Bearer {stage.key}"
    assert await _ask(stage, Authorization=key, Origin=stage.home) == 200
    assert await _ask(stage, Authorization=key, Origin="http://evil.example") == 403
    assert await _ask(stage, Authorization=key, Origin="null") == 403
    window = urlsplit(stage.window("a")["url"])
    assert await _ask(stage, Authorization=key, Origin=f"http://{window.netloc}") == 403
    assert await _ask(stage, Authorization=key, Sec_Fetch_Site="cross-site") == 403


async def test_another_name_for_this_machine_is_not_answered(stage: OnStage) -> None:
    port = urlsplit(stage.home).port
    for host, status in (
        (f"evil.example:{port}", 403),
        ("evil.example", 403),
        (f"127.0.0.1.evil.example:{port}", 403),
        (f"[::1:{port}", 403),
        (f"localhost:{port}", 200),
    ):
        assert await _ask(stage, Authorization=f"Bearer {stage.key}", Host=host) == status, host
        async with stage.http.get(stage.home, headers={"Host": host}) as answer:
            assert (answer.status == 200) == (status == 200), host


async def test_events_come_only_after_the_key(stage: OnStage) -> None:
    for first in ({"key": "wrong"}, {"key": None}, [], "key"):
        async with stage.http.ws_connect(f"{stage.home}/stage/events") as socket:
            await socket.send_str(json.dumps(first))
            message = await socket.receive(timeout=5)
            assert message.type is aiohttp.WSMsgType.CLOSE
            assert message.data == 4401
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await stage.http.ws_connect(
            f"{stage.home}/stage/events", headers={"Origin": "http://evil.example"}
        )
    assert refused.value.status == 403


async def test_two_pages_hear_the_same_and_one_that_goes_ends_nothing(stage: OnStage) -> None:
    async with stage.http.ws_connect(f"{stage.home}/stage/events") as other:
        await other.send_json({"key": stage.key})
        assert [(await other.receive_json(timeout=5))["type"] for _ in range(4)] == [
            "welcome",
            "state",
            "verdict",
            "chart",
        ]
        await stage.do("cut", window="a")
        while (told := await other.receive_json(timeout=5))["type"] != "done":
            pass
        assert told["do"] == "cut"
    await stage.do("heal")


async def test_what_is_no_action_is_answered_in_words(stage: OnStage) -> None:
    headers = {"Authorization": f"Bearer {stage.key}", "Content-Type": "application/json"}
    for body in ("", "[]", "{}", '{"do": 1}', "{", "null", '{"do": "cut", "window": "a"' * 9):
        async with stage.http.post(f"{stage.home}/stage/do", data=body, headers=headers) as answer:
            assert answer.status == 400, body
    async with stage.http.post(
        f"{stage.home}/stage/do", data="x" * 100_000, headers=headers
    ) as answer:
        assert answer.status == 413
    async with stage.http.get(f"{stage.home}/stage/events") as answer:
        assert answer.status == 400


async def test_the_page_may_do_only_what_its_own_files_do(stage: OnStage) -> None:
    async with stage.http.get(stage.home) as answer:
        policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    for window in "ab":
        where = urlsplit(stage.window(window)["url"])
        assert f"http://{where.netloc}" in policy
        async with stage.http.get(f"http://{where.netloc}/") as answer:
            framed = answer.headers["Content-Security-Policy"]
        assert f"frame-ancestors 'self' {stage.home}" in framed


async def test_no_file_outside_of_the_page_is_served(stage: OnStage) -> None:
    for path in ("../stage.py", "..%2fstage.py", "%2e%2e/stage.py", "/etc/passwd", "nothing.js"):
        async with stage.http.get(f"{stage.home}/web/{path}") as answer:
            assert answer.status in (403, 404), path
    async with stage.http.get(f"{stage.home}/web/theme.css") as answer:
        assert answer.status == 200
        assert answer.content_type == "text/css"
