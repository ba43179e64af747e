"""A client's token: given once, or fetched fresh each time.

It reads the user id in it and verifies nothing: that is the server's business.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from chatlab.errors import ClientError, NotConnected

__all__ = ["Credentials", "Token"]

Token = str | None | Callable[[], str | Awaitable[str]]
"""A token, or a callable (plain or async) that returns a fresh one each time."""


class Credentials:
    """`timeout` is in seconds and bounds each call of the callable."""

    def __init__(self, given: Token, timeout: float) -> None:
        self.current: str | None = None if callable(given) else given
        self._given = given
        self._timeout = timeout

    @property
    def renewable(self) -> bool:
        """Whether there is a callable that fetches fresh tokens."""
        return callable(self._given)

    @property
    def user(self) -> str | None:
        """The `sub` of the token, where it is a JWT that has one."""
        with suppress(Exception):
            payload = (self.current or "").split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            if isinstance(claims["sub"], str):
                return claims["sub"]
        return None

    async def auth(self) -> dict[str, Any]:
        """What the handshake carries. Raises `NotConnected` when the callable fails."""
        if self.renewable:
            self.current = await self.fetch()
        return {} if self.current is None else {"token": self.current}

    async def fetch(self) -> str:
        """A fresh token. Raises `NotConnected` when the callable fails, so that it is tried again,
        and `ClientError` where there is none."""
        if not callable(self._given):
            raise ClientError("Give a token: this client has no callable to fetch one with")
        try:
            async with asyncio.timeout(self._timeout):
                token = self._given()
                return await token if inspect.isawaitable(token) else token
        except Exception as error:
            raise NotConnected(f"No token: the callable raised {type(error).__name__}") from error
