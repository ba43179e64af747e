"""The level Contract, what a balancer and an operator ask over HTTP: health and metrics."""

from __future__ import annotations

import asyncio
import json

from chatlab.grade.judge import must
from chatlab.grade.promise import SCALING, Level, NotJudged, Unready, promise
from chatlab.grade.target import Target

_CONTRACT = Level.CONTRACT


@promise(
    "health",
    SCALING,
    _CONTRACT,
    "`GET /healthz` is 200 with `{ok, storage, server}` while the server serves.",
    users=0,
)
async def health(target: Target) -> None:
    status, body = await get(target, "/healthz")
    must(status == 200, f"`GET /healthz` is {status}")
    try:
        told = json.loads(body)
    except ValueError:
        told = None
    must(isinstance(told, dict), "`GET /healthz` gives no JSON object")
    must(told.get("ok") is True, f"`ok` is {told.get('ok')!r}")
    missing = [name for name in ("storage", "server") if name not in told]
    must(not missing, f"`GET /healthz` has no {', '.join(missing)}")


@promise(
    "metrics",
    SCALING,
    _CONTRACT,
    "`GET /metrics` is Prometheus text whose names begin with `chatlab_`.",
    users=0,
)
async def metrics(target: Target) -> None:
    status, body = await get(target, "/metrics")
    if status == 403:
        raise NotJudged("the server shows its metrics to its own machine only")
    must(status == 200, f"`GET /metrics` is {status}")
    names = {line.split("{")[0].split(" ")[0] for line in body.splitlines() if line[:1] != "#"}
    must(any(name.startswith("chatlab_") for name in names), "no name begins with `chatlab_`")


async def get(target: Target, path: str, *, server: int = 0) -> tuple[int, str]:
    """The status and the body of a plain request. Raises `Unready` where nobody answers."""
    target.trace.add("grade", "→", f"GET {path}")
    try:
        async with asyncio.timeout(target.timeout):
            async with target.session.get(target.urls[server] + path) as answer:
                body = await answer.text()
    except (OSError, TimeoutError) as error:
        raise Unready(f"GET {path} was not answered: {error}") from None
    target.trace.add("grade", "←", f"{answer.status} {body}")
    return answer.status, body
