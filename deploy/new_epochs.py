"""Begin a new epoch in every room, after a backup was restored: `python new_epochs.py STORAGE`.

A restored store gives numbers out again that clients have seen on other messages. In a new epoch
every client that comes back is told that history is lost, and shows what is there now. Run it with
the server's own Python, before the servers are started. It is not for anything else.
"""

from __future__ import annotations

import secrets
import sqlite3
import sys
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis

SCHEMES = {"redis": "redis", "valkey": "redis", "rediss": "rediss", "valkeys": "rediss"}
SCHEMES["unix"] = "unix"


def main() -> int:
    if len(sys.argv) != 2:
        sys.stderr.write("usage: new_epochs.py sqlite:////data/chat.db | redis://host:6379/0\n")
        return 2
    parts = urlsplit(sys.argv[1])
    if parts.scheme == "sqlite":
        sys.stdout.write(in_sqlite(Path(parts.path.removeprefix("/"))))
    elif parts.scheme in SCHEMES:
        query = dict(parse_qsl(parts.query))
        prefix = query.pop("prefix", "chatlab")
        address = urlunsplit(parts._replace(query=urlencode(query)))
        found = in_redis(SCHEMES[parts.scheme] + address.removeprefix(parts.scheme), prefix)
        sys.stdout.write(f"{found} rooms have a new epoch\n")
    else:
        sys.stderr.write("name the Redis or Valkey itself: of a cluster, each of its masters\n")
        return 2
    return 0


def in_sqlite(path: Path) -> str:
    if not path.is_file():
        raise SystemExit(f"there is no {path}")
    with sqlite3.connect(path) as store:
        store.execute("UPDATE meta SET value = ? WHERE name = 'token'", (secrets.token_hex(16),))
    store.close()
    return "every room has a new epoch\n"


def in_redis(address: str, prefix: str) -> int:
    found = 0
    with redis.Redis.from_url(address) as store:
        for key in store.scan_iter(f"{prefix}:{{*}}:meta", count=1000):
            store.hset(key, "epoch", secrets.token_hex(8))
            found += 1
    return found


if __name__ == "__main__":
    sys.exit(main())
