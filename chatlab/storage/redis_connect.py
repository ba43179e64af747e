"""Connections to Redis that can be relied on to send nothing twice, and a question put to several.

What a connection is then used for is redis_link.py's and redis_subscriber.py's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

from redis.asyncio.connection import AbstractConnection, Connection
from redis.exceptions import RedisError

__all__ = [
    "Address",
    "Answer",
    "Connect",
    "ask",
    "ask_several",
    "connect_to",
    "hang_up",
    "in_words",
]

Address: TypeAlias = tuple[str, int]
Answer: TypeAlias = tuple[Address, list[Any]]
"""Who has answered, and the reply to each command."""

Connect: TypeAlias = Callable[[], Awaitable[AbstractConnection]]
"""Makes a connection that is ready for commands, or raises RedisError or OSError."""

ANSWER_WITHIN: Final = 0.5  # seconds for one of several that are asked where something is
LATECOMERS: Final = 0.1  # seconds for the rest, once more than half have answered


async def connect_to(options: dict[str, Any]) -> AbstractConnection:
    """A connection that answers. Raises RedisError or OSError.

    redis-py's own timeouts and repetitions are off: what was sent and not answered must not be sent
    again, and how long to wait is the link's to say.
    """
    kind = options.get("connection_class", Connection)
    rest = {name: value for name, value in options.items() if name != "connection_class"}
    connection: AbstractConnection = kind(
        **rest, protocol=2, socket_timeout=None, socket_connect_timeout=None, driver_info=None
    )
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
        await ask(connection, "PING")
    except BaseException:
        await hang_up(connection)
        raise
    return connection


async def ask(connection: AbstractConnection, *command: str) -> Any:
    """The reply to one command. Raises RedisError or OSError."""
    await connection.send_command(*command, check_health=False)
    return await connection.read_response(timeout=math.inf)


async def ask_several(
    addresses: Iterable[Address], options: dict[str, Any], commands: Sequence[tuple[str, ...]]
) -> tuple[list[Answer], object]:
    """Put the same commands to several servers at once: the answers, and why one had none.

    It does not wait for those who are dead or silent: half a second at most, and hardly longer than
    it takes more than half of them to answer.
    """
    tasks = {asyncio.create_task(_ask_one(one, options, commands)) for one in addresses}
    waiting, answers = set(tasks), list[Answer]()
    reason: object = None
    try:
        async with asyncio.timeout(ANSWER_WITHIN) as limit:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    try:
                        answers.append(task.result())
                    except (RedisError, OSError) as error:
                        reason = in_words(error, ANSWER_WITHIN)
                if len(answers) > len(tasks) // 2:
                    soon = asyncio.get_running_loop().time() + LATECOMERS
                    limit.reschedule(min(soon, limit.when() or soon))
    except TimeoutError:
        reason = reason or f"silent for {ANSWER_WITHIN:g} s"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return answers, reason


async def _ask_one(
    address: Address, options: dict[str, Any], commands: Sequence[tuple[str, ...]]
) -> Answer:
    host, port = address
    connection = await connect_to(options | {"host": host, "port": port})
    try:
        return address, [await ask(connection, *command) for command in commands]
    finally:
        await hang_up(connection)


async def hang_up(connection: AbstractConnection) -> None:
    """Close without a word; what goes wrong with that does not matter any more."""
    with contextlib.suppress(RedisError, OSError):
        await connection.disconnect(nowait=True)


def in_words(error: BaseException, seconds: float) -> str:
    """Why a connection failed; `seconds` is the time that a `TimeoutError` has waited in vain."""
    if isinstance(error, TimeoutError) and not str(error):
        return f"silent for {seconds:g} s"
    return str(error) or type(error).__name__
