"""What lesson 02 has taught: a token of ours or no entry, and its `sub` is who speaks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatlab.lab import Refused, raw_client
from chatlab.lab.tokens import mint

STEPS = Path(__file__).resolve().parents[2] / "notebooks" / "steps"
SECRET = "a secret of the tests that is long enough"


@pytest.fixture
def url(run_step: Callable[..., str]) -> str:
    return run_step("step2", CHATLAB_JWT_SECRET=SECRET)


def token(user: str = "alice", **how: Any) -> str:
    return mint(user, **{"secret": SECRET, **how})


async def test_a_message_bears_the_name_of_the_token_whatever_the_payload_says(
    url: str, join: Callable[..., Any]
) -> None:
    alice = await join(url, "alice", {"token": token("alice")})
    mallory = await join(url, "mallory", {"token": token("mallory"), "name": "alice"})
    for client in (alice, mallory):
        await client.call("join-room", "general", timeout=20)
    await mallory.call("send-message", {"text": "hello", "user": "alice"}, timeout=20)
    await alice.wait_for("new-message")
    assert alice.received[-1].data["user"] == "mallory"


async def test_the_command_line_makes_tokens_for_it(url: str, join: Callable[..., Any]) -> None:
    command = [sys.executable, "-m", "chatlab", "token", "alice"]
    environment = {**os.environ, "CHATLAB_JWT_SECRET": SECRET}
    made = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    alice = await join(url, "alice", {"token": made.stdout.strip()})
    assert (await alice.call("join-room", "general", timeout=20))["ok"]


NOT_WELCOME = {
    "no auth": (None, "authentication_required"),
    "a name": ({"name": "alice"}, "authentication_required"),
    "a list": (["a"], "authentication_required"),
    "a string": ("a", "authentication_required"),
    "a number for a token": ({"token": 5}, "invalid_token"),
    "an object for a token": ({"token": {"a": 1}}, "invalid_token"),
    "no token at all": ({"token": "a.b.c"}, "invalid_token"),
    "expired": ({"token": token(ttl=-1)}, "token_expired"),
    "another secret": ({"token": token(secret=SECRET[::-1])}, "invalid_token"),
    "another issuer": ({"token": token(issuer="another")}, "invalid_token"),
    "another audience": ({"token": token(audience="another")}, "invalid_token"),
    "no exp": ({"token": token(claims={"exp": None})}, "invalid_token"),
    "no aud": ({"token": token(claims={"aud": None})}, "invalid_token"),
    "no sub": ({"token": token(claims={"sub": None})}, "invalid_token"),
    "a number for a user": ({"token": token(claims={"sub": 7})}, "invalid_token"),
    "HS512": ({"token": token(secret=SECRET * 2, algorithm="HS512")}, "invalid_token"),
}


async def test_everybody_else_is_refused_with_a_word_for_a_program(url: str) -> None:
    heard = {}
    for name, (auth, _) in NOT_WELCOME.items():
        with pytest.raises(Refused) as refused:
            await raw_client(url, auth=auth, timeout=20)
        heard[name] = (auth, refused.value.code)
        assert refused.value.data == {"code": refused.value.code, "retry": False}
    assert heard == NOT_WELCOME


@pytest.mark.parametrize("secret", ["", "short"])
def test_it_does_not_start_with_a_secret_that_can_be_guessed(secret: str) -> None:
    command = [sys.executable, str(STEPS / "step2.py"), "--port", "0"]
    environment = {**os.environ, "CHATLAB_JWT_SECRET": secret}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=20)
    assert ended.returncode == 1
    assert "CHATLAB_JWT_SECRET must hold at least 32 random bytes" in ended.stderr
