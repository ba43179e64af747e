"""Through the door there is a chat and nothing else, for whoever has the code."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest

from chatlab.client import ChatClient
from chatlab.errors import Banned
from tests.stage.running import OnStage


def _door(stage: OnStage) -> str:
    return str(stage.state["door"]["address"])


async def _join(stage: OnStage, code: str, name: str, **headers: str) -> tuple[int, str, str]:
    async with stage.http.post(
        f"{_door(stage)}/join",
        data={"code": code, "name": name},
        headers=headers,
        allow_redirects=False,
    ) as answer:
        return answer.status, answer.headers.get("Location", ""), await answer.text()


async def _guest(stage: OnStage, name: str) -> ChatClient:
    status, place, _ = await _join(stage, stage.state["door"]["code"], name)
    assert status == 303
    assert place.startswith("/#token=")
    given = parse_qs(urlsplit(place).fragment)
    assert given["room"] == ["stage"]
    return ChatClient(_door(stage), given["token"][0], name=name)


async def test_nothing_but_the_chat_is_behind_the_door(stage: OnStage) -> None:
    door = _door(stage)
    for path in (
        "/",
        "/page/theme.css",
        "/join",
        "/join/join.js",
        "/socket.io/?EIO=4&transport=polling",
    ):
        async with stage.http.get(door + path) as answer:
            assert answer.status == 200, path
    for path in (
        "/healthz",
        "/metrics",
        "/dev/token",
        "/stage/do",
        "/stage/events",
        "/web/index.html",
        "/web/stage.js",
        "/joined",
        "/page/../healthz",
        "/page/%2e%2e/healthz",
        "/socket.io/../metrics",
        "/socket.io/%2e%2e/healthz",
        "/join/../../etc/passwd",
        "//healthz",
        "/HEALTHZ",
    ):
        for method in ("GET", "POST"):
            async with stage.http.request(method, door + path, data=b"") as answer:
                assert answer.status in (400, 403, 404, 405), (method, path, answer.status)
                assert "chatlab_" not in await answer.text()


async def test_a_guest_is_a_chat_user_like_any_other_and_sees_the_windows(stage: OnStage) -> None:
    async with await _guest(stage, "Änna  B.") as anna, stage.sitting("a") as alice:
        assert re.fullmatch(r"guest-anna-b-[0-9a-f]{4,8}", str(anna.user))
        await anna.join("stage")
        await alice.join("stage")
        await anna.send("hello from outside", "stage")
        await stage.until(
            lambda: ("delivered", "balancer", "window-a") in stage.hops("hello from outside")
        )
        await stage.until(lambda: stage.state["door"]["guests"][-1]["name"] == "Änna B.")
        assert "Änna B. has joined." in stage.notices()
        await stage.until(lambda: stage.verdict["counts"]["delivered"] == 1)
        assert stage.verdict["ok"]
        with pytest.raises(Exception, match=r"private|not|may"):
            await anna.join("private-staff")


async def test_a_guest_can_be_banned_and_stays_out_after_a_reset(stage: OnStage) -> None:
    guest = await _guest(stage, "Mallory")
    async with guest:
        await guest.join("stage")
        await stage.do("ban", user=guest.user)
        with pytest.raises(Banned):
            async for _ in guest.messages():
                pass
    await stage.do("reset")
    with pytest.raises(Banned):
        await ChatClient(_door(stage), guest._session._credentials.current).connect()


async def test_a_closed_door_lets_nobody_in_until_it_opens(stage: OnStage) -> None:
    await stage.do("door", open=False)
    assert not stage.state["door"]["open"]
    with pytest.raises(OSError, match="onnect"):
        await _join(stage, "ABC-DEF", "Anna")
    assert await stage.do("door", open=True) == "The door is open."
    async with await _guest(stage, "Anna"):
        pass


async def test_a_new_code_makes_the_old_one_worthless(stage: OnStage) -> None:
    old = stage.state["door"]["code"]
    await stage.do("door", code="new")
    new = stage.state["door"]["code"]
    assert new != old
    assert (await _join(stage, old, "Anna"))[0] == 403
    assert (await _join(stage, f" {new.lower().replace('-', '')} ", "Anna"))[0] == 303
    assert stage.state["door"]["qr"].startswith("data:image/svg+xml")
    assert stage.state["door"]["join"] == f"{_door(stage)}/join"


async def test_what_somebody_calls_themselves_is_never_html(stage: OnStage) -> None:
    code = stage.state["door"]["code"]
    status, _, text = await _join(stage, code, "<b>x</b>" * 9)
    assert status == 400
    assert "<b>" not in text
    assert (await _join(stage, code, "\u202e\u0007 "))[0] == 400
    status, _, text = await _join(stage, '"><script>', "Anna")
    assert status == 403
    assert "<script>" not in text


async def test_who_guesses_is_soon_made_to_wait_whatever_they_say_of_their_address(
    stage: OnStage,
) -> None:
    answers = [
        await _join(stage, "AAA-AAA", "Eve", **{"X-Forwarded-For": f"10.0.0.{n}"})
        for n in range(12)
    ]
    assert [status for status, _, _ in answers][-1] == 429
    status, _, text = await _join(stage, stage.state["door"]["code"], "Eve")
    assert status == 429
    assert "Wait" in text
