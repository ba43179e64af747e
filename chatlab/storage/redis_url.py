"""What may stand behind `--storage` for Redis: read, checked, and shown without its secrets.

redis-py reads `redis://`, `rediss://` and `unix://`; Valkey's names for them, and addresses of
Sentinel and of a Redis Cluster, are ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, NoReturn
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection

from chatlab.errors import SettingsError

__all__ = ["SCHEMES", "Location", "locate"]

_EXAMPLES: Final = {
    "single": "user:password@host:6379/0",
    "unix": "/run/valkey.sock",
    "sentinel": "user:password@host1:26379,host2:26379/mymaster/0",
    "cluster": "user:password@host1:6379,host2:6379",
}
# What a scheme means, and whether it is over TLS.
_SCHEMES: Final = {
    name + suffix: (kind, tls)
    for suffix, kind in (("", "single"), ("+sentinel", "sentinel"), ("+cluster", "cluster"))
    for name, tls in (("redis", False), ("rediss", True), ("valkey", False), ("valkeys", True))
} | {"unix": ("unix", False)}
SCHEMES: Final = tuple(_SCHEMES)

_PREFIX: Final = "chatlab"
_LEGAL_PREFIX: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-"
)
_LOGIN: Final = ("username", "password")
_SENTINEL_LOGIN: Final = ("sentinel_username", "sentinel_password")
_TLS: Final = (
    "ssl_cert_reqs",
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_check_hostname",
)
_CERT_REQS: Final = ("none", "optional", "required")
_QUOTE: Final = "; in a password, write %2F for /, %3F for ?, %23 for # and %40 for @"
_YES_NO: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


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
    """What `url` means. Raises `SettingsError` with a sentence that shows no secret."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise SettingsError(f"--storage: expected one of {', '.join(SCHEMES)}, and then ://")
    try:
        # Not in one piece: newer Pythons refuse "[::1]" where it is one address of several.
        addresses = re.split("[/?#]", rest, maxsplit=1)[0]
        parts = urlsplit(f"//_{rest.removeprefix(addresses)}")._replace(netloc=addresses)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError:
        _unreadable(scheme)
    # A password with one of these signs would be read as something else, and be shown.
    if "@" in parts.path or "#" in url or any("@" in name for name in query):
        _unreadable(scheme, _QUOTE)
    return _Reader(scheme, parts, query).location()


class _Reader:
    """Reads one address."""

    def __init__(self, scheme: str, parts: SplitResult, query: dict[str, str]) -> None:
        self.scheme = scheme
        self.kind, self.tls = _SCHEMES[scheme]
        self.path = parts.path
        self.query = query
        self.credentials, _, self.addresses = parts.netloc.rpartition("@")

    def location(self) -> Location:
        if self.kind == "unix":
            return self._unix()
        several = self.kind != "single"
        port = 26_379 if self.kind == "sentinel" else 6_379
        addresses = self.addresses.split(",") if several else [self.addresses]
        hosts = tuple(self._host(one, port) for one in addresses)
        self._check_options()
        service, _, path = self.path.removeprefix("/").partition("/")
        if self.kind != "sentinel":
            service, path = "", self.path.removeprefix("/")
        elif not service:
            _refuse(f"a {self.scheme}:// address ends with the service's name", self.scheme)
        database = self._database(path)
        options = self._login() | self._tls() | {"db": database}
        if not several:
            options |= {"host": hosts[0][0], "port": hosts[0][1]}
        shown = f"{self.scheme}://{self.addresses}"
        shown += f"/{service}" if service else ""
        shown += "" if self.kind == "cluster" else f"/{database}"
        return Location(
            self.kind,
            shown,
            self._prefix(),
            database,
            options,
            hosts if several else (),
            unquote(service),
            self._tls() | self._login("sentinel_") if self.kind == "sentinel" else None,
        )

    def _unix(self) -> Location:
        if self.addresses or not self.path.strip("/"):
            _refuse("unix:// is followed by the socket's whole path", self.scheme)
        self._check_options()
        database = self._database("")
        path = unquote(self.path)
        options = {"connection_class": UnixDomainSocketConnection, "path": path, "db": database}
        shown = f"unix://{self.path}" + (f"?db={database}" if database else "")
        return Location("single", shown, self._prefix(), database, self._login() | options)

    def _host(self, address: str, port: int) -> tuple[str, int]:
        try:
            parts = urlsplit(f"//{address}")
            host, given = parts.hostname, parts.port
        except ValueError:
            _unreadable(self.scheme)
        if not host or given == 0:
            _unreadable(self.scheme)
        return unquote(host), given or port

    def _check_options(self) -> None:
        known = {"prefix", *_LOGIN}
        known |= {"db"} if self.kind != "cluster" else set()
        known |= {*_TLS} if self.tls else set()
        known |= {*_SENTINEL_LOGIN} if self.kind == "sentinel" else set()
        for name in self.query:
            if name in _TLS and not self.tls:
                over_tls = self.scheme.replace("redis", "rediss").replace("valkey", "valkeys")
                raise SettingsError(
                    f"--storage: {name} is for a connection over TLS"
                    + (f": write {over_tls}://…" if self.kind != "unix" else "")
                )
            if name not in known and any("@" in value for value in self.query.values()):
                _unreadable(self.scheme, _QUOTE)  # this may be the rest of a password
            if name not in known:
                raise SettingsError(
                    f"--storage: {name!r} is not an option of a {self.scheme}:// address; those "
                    f"are {', '.join(sorted(known))}"
                )

    def _login(self, prefix: str = "") -> dict[str, Any]:
        """Who to be; what stands before the hosts wins over the options."""
        login = {
            name: self.query[prefix + name] for name in _LOGIN if self.query.get(prefix + name)
        }
        if not prefix:
            user, _, password = self.credentials.partition(":")
            given = {"username": unquote(user), "password": unquote(password)}
            login |= {name: value for name, value in given.items() if value}
        return login

    def _tls(self) -> dict[str, Any]:
        if not self.tls:
            return {"connection_class": Connection}
        tls: dict[str, Any] = {name: self.query[name] for name in _TLS if name in self.query}
        if tls.get("ssl_cert_reqs", "required") not in _CERT_REQS:
            raise SettingsError(f"--storage: ssl_cert_reqs is one of {', '.join(_CERT_REQS)}")
        if "ssl_check_hostname" in tls:
            known = _YES_NO.get(tls["ssl_check_hostname"].lower())
            if known is None:
                raise SettingsError("--storage: ssl_check_hostname is true or false")
            tls["ssl_check_hostname"] = known
        return {"connection_class": SSLConnection, **tls}

    def _database(self, path: str) -> int:
        number = self.query.get("db") or path.removesuffix("/") or "0"
        if path and self.kind == "cluster":
            raise SettingsError("--storage: a cluster has one database, which has no number")
        if not (number.isascii() and number.isdecimal()):
            _refuse("a database is a number", self.scheme)
        return int(number)

    def _prefix(self) -> str:
        prefix = self.query.get("prefix", _PREFIX)
        if not prefix or not _LEGAL_PREFIX.issuperset(prefix):
            raise SettingsError("--storage: prefix= may hold letters, digits and _ . : - only")
        return prefix


def _unreadable(scheme: str, hint: str = "") -> NoReturn:
    _refuse("this cannot be read as an address", scheme, hint)


def _refuse(what: str, scheme: str, hint: str = "") -> NoReturn:
    example = f"{scheme}://{_EXAMPLES[_SCHEMES[scheme][0]]}"
    raise SettingsError(f"--storage: {what}; write it as {example}{hint}") from None
