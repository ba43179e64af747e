"""The official JavaScript client against the transport, on each of its transports.

tests/test_js_client.py has it use the chat as a page would; here it sends what a chat never does.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.protocol.world import strict
from tests.test_js_client import HERE, NODE

SCRIPT = Path(__file__).with_name("official.mjs")

pytestmark = pytest.mark.skipif(
    not HERE and not os.environ.get("CI"), reason="no Node or no `npm ci` in tests/js"
)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("transports", ["polling", "websocket", "polling+websocket"])
async def test_everything_arrives_once_whole_and_in_order(transports: str) -> None:
    assert HERE, "Node or tests/js/node_modules is missing: run `npm ci` in tests/js"
    # Pings come meanwhile, and this client gives up a server that is late with one.
    async with strict(ping_interval=0.3, ping_timeout=10.0) as world:

        def obey(name: str, args: list[Any]) -> None:
            sid = world.suite.opened[0]
            if name == "tell":
                for number in range(args[0]):
                    world.transport.push_event(sid, "news", number)
            elif name == "leave":
                world.suite.transport.eio.spawn(world.transport.close_transport(sid, "told to"))

        async def door(handshake: Any) -> dict[str, Any] | None:
            if handshake.auth != {"token": "refuse"}:
                return None
            return {"message": "Not you", "data": {"code": "no", "retry": False}}

        world.suite.handling, world.suite.connecting = obey, door
        done = await asyncio.to_thread(
            subprocess.run,
            [str(NODE), str(SCRIPT), f"http://127.0.0.1:{world.port}", transports],
            capture_output=True,
            text=True,
            timeout=40,
        )
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout)
    assert seen == {
        "auth": [{"token": "123"}],
        "acks": list(range(300)),
        "news": list(range(300)),
        "upgrade": "websocket" if "+" in transports else None,
        "transport": "polling" if transports == "polling" else "websocket",
        "unicode": True,
        "plain": [1, "2", {"3": [True, None, 1.5]}],
        "long": True,
        "none": [],
        "bytes": [True, sha256(b"\x01\x02\x03"), "text"],
        "ackedBytes": True,
        "emptyBytes": sha256(b""),
        "custom": [[{"token": "abc"}], "here"],
        "refused": "Invalid namespace",
        "afterwards": "still here",
        "gone": "transport close",
        "refusal": {"message": "Not you", "data": {"code": "no", "retry": False}},
    }
