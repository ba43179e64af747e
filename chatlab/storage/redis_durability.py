"""Whether Redis is set to keep what it was given, looked up once when a server starts."""

from __future__ import annotations

from redis.exceptions import ResponseError

from chatlab.errors import Unavailable
from chatlab.storage.redis_nodes import Node, Nodes

__all__ = ["durability"]


async def durability(nodes: Nodes) -> list[str]:
    """A sentence for each setting with which messages that were acked may be gone one day.

    What a managed Redis does not tell is not warned of. Raises nothing.
    """
    warnings: list[str] = []
    for node in nodes.all():
        try:
            warnings += [f"Redis at {node.name}: {warning}" for warning in await _of(node)]
        except (Unavailable, ResponseError):
            continue
    return warnings


async def _of(node: Node) -> list[str]:
    memory, disk = await _info(node, "memory"), await _info(node, "persistence")
    found = []
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        found.append(f"maxmemory-policy is {policy}: it may drop whole rooms; set it to noeviction")
    if disk.get("aof_enabled", "1") != "1":
        found.append(
            "appendonly is off: messages that were acked may be gone when it restarts, and "
            "clients will be told so"
        )
    elif await _fsync(node) not in ("always", ""):
        found.append(
            "appendfsync is not always: the last messages that were acked may be gone after a "
            "power cut, and clients will be told so"
        )
    return found


async def _info(node: Node, section: str) -> dict[str, str]:
    text = (await node.others.call("INFO", section)).decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


async def _fsync(node: Node) -> str:
    try:
        found = await node.others.call("CONFIG GET", "appendfsync")
    except ResponseError:
        return ""
    return found[1].decode() if found else ""
