"""What may stand behind `--storage` for Redis: read, checked, and shown without its secrets.

redis-py reads `redis://`, `rediss://` and `unix://`; Valkey's names for them, and URLs for Sentinel
and Redis Cluster, are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from redis.asyncio.connection import parse_url

from chatlab.errors import SettingsError

__all__ = ["SCHEMES", "Location", "locate"]

_PLAIN: Final = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "unix": "unix",
}
_SEVERAL: Final = {"redis+sentinel": "sentinel", "redis+cluster": "cluster"}
SCHEMES: Final = (*_PLAIN, *_SEVERAL)

_PREFIX: Final = "chatlab"
_LEGAL_PREFIX: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-"
)
_OPTIONS: Final = frozenset(
    {
        "db",
        "username",
        "password",
        "ssl_cert_reqs",
        "ssl_ca_certs",
        "ssl_certfile",
        "ssl_keyfile",
        "ssl_check_hostname",
    }
)
_SENTINEL_OPTIONS: Final = frozenset({"sentinel_username", "sentinel_password"})


@dataclass(frozen=True, slots=True)
class Location:
    """Where Redis is. `options` are for redis-py's connections, without an address for `sentinel`
    and `cluster`, which have `hosts` instead. `repr` shows no secret.
    """

    kind: str
    """`single`, `sentinel` or `cluster`."""

    shown: str
    prefix: str
    database: int
    options: dict[str, Any]
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel_options: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"Location({self.shown!r})"


def locate(url: str) -> Location:
    """What `url` means. Raises `SettingsError` with a sentence that names no secret."""
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise SettingsError(f"--storage {scheme}://… is not known")
    try:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError:
        raise _unreadable(scheme) from None
    prefix = query.pop("prefix", _PREFIX)
    if not prefix or not _LEGAL_PREFIX.issuperset(prefix):
        raise SettingsError(f"--storage: prefix={prefix} may hold letters, digits and _ . : - only")
    known = _OPTIONS | (_SENTINEL_OPTIONS if scheme == "redis+sentinel" else frozenset())
    for name in query:
        if name not in known:
            raise SettingsError(f"--storage: {name!r} is not an option of a {scheme}:// address")
    if scheme in _SEVERAL:
        return _several(scheme, parts.netloc, parts.path, query, prefix)
    return _single(scheme, url, query, prefix)


def _single(scheme: str, url: str, query: dict[str, str], prefix: str) -> Location:
    address = url.partition("://")[2].partition("?")[0]
    rewritten = f"{_PLAIN[scheme]}://{address}" + (f"?{urlencode(query)}" if query else "")
    try:
        options: dict[str, Any] = dict(parse_url(rewritten))
    except ValueError:
        raise _unreadable(scheme) from None
    path = urlsplit(rewritten).path.strip("/")
    if scheme == "unix":
        if not options.get("path"):
            raise SettingsError(
                "--storage unix:// needs the socket's path: unix:///run/valkey.sock"
            )
    elif not options.get("host"):
        raise _unreadable(scheme)
    elif path and not path.isdecimal():
        raise SettingsError(f"--storage {scheme}://…/{path}: a database is a number")
    shown = f"{scheme}://{address.rpartition('@')[2]}"
    return Location("single", shown, prefix, int(options.get("db") or 0), options)


def _several(scheme: str, netloc: str, path: str, query: dict[str, str], prefix: str) -> Location:
    kind = _SEVERAL[scheme]
    credentials, _, addresses = netloc.rpartition("@")
    hosts = tuple(
        _host(scheme, one, 26_379 if kind == "sentinel" else 6_379) for one in addresses.split(",")
    )
    options: dict[str, Any] = {name: query[name] for name in query if name in _OPTIONS}
    if credentials:
        user, _, password = credentials.partition(":")
        options |= {"username": unquote(user) or None, "password": unquote(password) or None}
    service, _, database = path.strip("/").partition("/")
    if kind == "cluster" and service:
        raise SettingsError("--storage redis+cluster:// has no database: a cluster has only one")
    if kind == "sentinel" and not service:
        raise SettingsError(
            "--storage redis+sentinel:// needs the service's name: "
            "redis+sentinel://host1:26379,host2:26379/mymaster"
        )
    number = database or options.pop("db", "0") or "0"
    if not number.isdecimal():
        raise SettingsError(f"--storage {scheme}://…/{number}: a database is a number")
    options["db"] = int(number)
    sentinel_options = {
        name.removeprefix("sentinel_"): query[name] for name in query if name in _SENTINEL_OPTIONS
    }
    shown = f"{scheme}://{addresses}{path}"
    return Location(kind, shown, prefix, int(number), options, hosts, service, sentinel_options)


def _host(scheme: str, address: str, port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{address}")
        host, given = parts.hostname, parts.port
    except ValueError:
        raise _unreadable(scheme) from None
    if not host:
        raise _unreadable(scheme)
    return host, given or port


def _unreadable(scheme: str) -> SettingsError:
    example = {
        "unix": "unix:///run/valkey.sock",
        "redis+sentinel": "redis+sentinel://host1:26379,host2:26379/mymaster",
        "redis+cluster": "redis+cluster://host1:6379,host2:6379",
    }.get(scheme, f"{scheme}://user:password@host:6379/0")
    return SettingsError(f"--storage {scheme}://… cannot be read as an address: write {example}")
