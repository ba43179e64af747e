"""Small things that the client's tests share."""

from __future__ import annotations

import asyncio
import time

import jwt

from tests.waiting import PATIENCE_S

SECRET = "a secret of the tests that is long enough to sign with"


def token_for(user, *, ttl=600.0, secret=SECRET, **claims):
    now = int(time.time())
    usual = {"sub": user, "iat": now, "exp": time.time() + ttl, "iss": "chatlab", "aud": "chatlab"}
    return jwt.encode(usual | claims, secret, algorithm="HS256")


async def take(stream, count, *, timeout=PATIENCE_S):
    """The next `count` entries of a stream, messages as their text."""
    entries = []
    async with asyncio.timeout(timeout):
        while len(entries) < count:
            entry = await anext(stream)
            entries.append(getattr(entry, "text", entry))
    return entries
