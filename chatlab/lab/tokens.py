"""Makes tokens that a server of the lab takes, and on request such as it should not take.

The server's own way to make one is `chatlab token`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import jwt

__all__ = ["mint", "mint_as"]


def mint_as(
    env: Mapping[str, str],
    user: str,
    *,
    ttl: float = 900.0,
    claims: Mapping[str, Any] | None = None,
) -> str:
    """A token that a `chatlab serve` takes which has `env` for its environment; see `mint`."""
    return mint(
        user,
        secret=env["CHATLAB_JWT_SECRET"].split(",")[0].strip(),
        issuer=env.get("CHATLAB_JWT_ISSUER", "chatlab"),
        audience=env.get("CHATLAB_JWT_AUDIENCE", "chatlab"),
        algorithm=env.get("CHATLAB_JWT_ALGORITHM", "HS256"),
        ttl=ttl,
        claims=claims,
    )


def mint(
    user: str,
    *,
    secret: str,
    issuer: str = "chatlab",
    audience: str = "chatlab",
    algorithm: str = "HS256",
    ttl: float = 900.0,
    claims: Mapping[str, Any] | None = None,
) -> str:
    """A signed token for `user` that lasts `ttl` seconds (negative: expired already).

    `claims` are added to the usual ones, or replace them; a claim that is None is left out.
    """
    now = time.time()
    usual = {"sub": user, "iat": int(now), "exp": now + ttl, "iss": issuer, "aud": audience}
    chosen = {**usual, **(claims or {})}
    present = {name: value for name, value in chosen.items() if value is not None}
    return jwt.encode(present, secret, algorithm=algorithm)
