"""Draws docs/lost-ack.svg, the picture of the README, from a run of the real server and client.

`python authoring/picture.py` writes it; a test compares it with a fresh run.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from chatlab import ChatClient
from chatlab.lab import Proxy, background, timeline
from chatlab.lab.recorder import Recorder
from chatlab.server import create_app
from chatlab.server.auth import Tokens
from chatlab.settings import Settings

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "lost-ack.svg"


async def draw() -> str:
    """The picture as SVG: an ack is lost, the message is sent again, and arrives once."""
    settings = Settings(dev=True)
    tokens = Tokens(settings)
    alice_did, bob_did = Recorder("alice", "client"), Recorder("bob", "client")
    with (
        background(lambda: create_app(settings)) as server,
        Proxy(server, drop="ack", at=2) as wire,
    ):
        async with (
            ChatClient(
                wire.url, token=tokens.issue("alice"), timeout=0.5, recorder=alice_did
            ) as alice,
            ChatClient(server.url, token=tokens.issue("bob"), recorder=bob_did) as bob,
        ):
            await alice.join("general")
            await bob.join("general")
            await alice.send("hello", room="general")
            await anext(aiter(bob.messages("general")))
            scene = timeline(
                alice_did, wire, server, bob_did, hide=("join-room", "user-joined", "user-left")
            )
            return scene.svg()


if __name__ == "__main__":
    PICTURE.write_text(asyncio.run(draw()) + "\n", encoding="utf-8")
