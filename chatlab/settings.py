"""Every knob of the server, in one frozen dataclass that is validated when it is made.

A value comes from the command line, else from its `CHATLAB_*` variable, else from the default
below. What a wrong value is answered with is a sentence, at start, not a traceback at night.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import math
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from chatlab.errors import SettingsError

__all__ = ["REDIS_SCHEMES", "Rate", "Settings", "options"]

# Bytes of a secret, by algorithm: RFC 7518 section 3.2.
MINIMUM_SECRET: Final = {"HS256": 32, "HS384": 48, "HS512": 64}

# What may stand before :// where messages are kept in Redis or Valkey.
_REDIS: Final = ("redis", "rediss", "valkey", "valkeys")
REDIS_SCHEMES: Final = (
    *_REDIS,
    "unix",
    *(f"{name}+{kind}" for kind in ("sentinel", "cluster") for name in _REDIS),
)

_UNCAPPED: Final = 10**9


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: `per_second` tokens flow in, `burst` fit."""

    per_second: float
    burst: int


def knob(default: Any, text: str, *, metavar: str = "", cap: bool = False) -> Any:
    """A setting with its help text; `cap` marks what `--no-limits` raises."""
    metadata = {"help": text, "metavar": metavar, "cap": cap}
    if isinstance(default, (list, dict)):
        raise TypeError("a default must be immutable")
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Raises `SettingsError` with one sentence when a value cannot be used."""

    host: str = knob("127.0.0.1", "address to listen on")
    port: int = knob(3001, "port to listen on; 0 picks a free one")
    storage: str = knob(
        "",
        "where messages are kept: sqlite:///chat.db (default), memory:// (default with --dev), or "
        "for several servers redis://host:6379/0 (also rediss, valkey, unix, redis+sentinel and "
        "redis+cluster)",
    )
    sqlite_sync: str = knob(
        "full", "full: acked messages survive a power cut; normal: only the death of the process"
    )
    dev: bool = knob(False, "development: make a secret, admit any user a valid token names")
    no_limits: bool = knob(False, "raise every cap, for benchmarks; with --dev only")

    jwt_secret: str = knob("", "signs and verifies tokens; two, comma between: the first signs")
    jwt_issuer: str = knob("chatlab", "required `iss` of a token")
    jwt_audience: str = knob("chatlab", "required `aud` of a token")
    jwt_algorithm: str = knob("HS256", "the one accepted algorithm", metavar="HS256|HS384|HS512")

    ping_interval: float = knob(25.0, "seconds between pings")
    ping_timeout: float = knob(20.0, "seconds to wait for a pong")
    connect_timeout: float = knob(10.0, "seconds in which a socket must have sent CONNECT")
    storage_timeout: float = knob(2.0, "seconds after which storage that is silent is unavailable")
    handler_timeout: float = knob(10.0, "seconds after which a handler that hangs is a failure")
    shutdown_grace: float = knob(1.5, "seconds for what is in hand when the server is stopped")
    presence_ttl: float = knob(
        15.0, "seconds after which the users of a server that died count as gone (Redis only)"
    )
    drain: float = knob(0.0, "seconds to go on serving with /healthz at 503 before closing")

    max_frame: int = knob(65_536, "bytes of a frame or a polling body", cap=True)
    max_unread: int = knob(1_048_576, "bytes waiting to be read by one client", cap=True)
    max_message: int = knob(4_000, "code points of a message, after trimming")
    max_connections_per_user: int = knob(20, "sockets of one user", cap=True)
    max_connections_per_address: int = knob(0, "sockets of one address; 0 is no limit")
    max_rooms_per_socket: int = knob(50, "rooms that one socket may be in", cap=True)
    max_unauthenticated: int = knob(1_000, "sockets that have not sent CONNECT yet", cap=True)
    max_pending: int = knob(256, "events of one socket in hand, past which reading pauses")
    max_attachments: int = knob(0, "binary attachments of a packet; chat has none")

    rate: float = knob(10.0, "events a second of one socket", cap=True)
    rate_burst: int = knob(20, "burst of one socket", cap=True)
    join_rate: float = knob(10.0, "joins and leaves a second of one socket", cap=True)
    join_burst: int = knob(50, "burst of joins and leaves of one socket", cap=True)
    user_rate: float = knob(20.0, "events a second of one user over all sockets", cap=True)
    user_burst: int = knob(40, "burst of one user", cap=True)

    history: int = knob(10_000, "messages kept in a room")
    key_ttl: float = knob(86_400.0, "seconds for which an idempotency key is remembered")

    origins: tuple[str, ...] = knob(
        (), "origins allowed besides the server's own, comma between; * is all"
    )
    trusted_proxy: tuple[str, ...] = knob(
        (), "addresses or networks whose X-Forwarded-* headers count, comma between"
    )
    metrics_public: bool = knob(False, "serve /metrics to other machines too")
    polling: bool = knob(True, "accept HTTP long-polling besides websocket")
    compression: bool = knob(False, "offer permessage-deflate; costs CPU and memory")
    log_level: str = knob("info", "debug, info, warning or error")
    log_format: str = knob("text", "text or json, one line each, on stderr")

    def __post_init__(self) -> None:
        _whole(self, "port", 0, 65_535)
        for name in (
            "ping_interval",
            "ping_timeout",
            "connect_timeout",
            "storage_timeout",
            "handler_timeout",
            "key_ttl",
            "presence_ttl",
            "rate",
            "join_rate",
            "user_rate",
        ):
            _positive(self, name)
        for name in ("shutdown_grace", "drain"):
            _positive(self, name, zero=True)
        for name in ("rate_burst", "join_burst", "user_burst", "history", "max_message"):
            _whole(self, name, 1, _UNCAPPED)
        for name in (
            "max_connections_per_user",
            "max_rooms_per_socket",
            "max_pending",
            "max_unauthenticated",
        ):
            _whole(self, name, 1, _UNCAPPED)
        for name in ("max_connections_per_address", "max_attachments"):
            _whole(self, name, 0, _UNCAPPED)
        _whole(self, "max_frame", 1_024, _UNCAPPED)
        _whole(self, "max_unread", self.max_frame, _UNCAPPED)
        _one_of(self, "sqlite_sync", ("full", "normal"))
        _one_of(self, "log_level", ("debug", "info", "warning", "error"))
        _one_of(self, "log_format", ("text", "json"))
        _one_of(self, "jwt_algorithm", ("HS256", "HS384", "HS512"))
        if self.no_limits:
            self._raise_caps()
        self._check_storage()
        self._check_secrets()
        self._check_networks()

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets that verify a token; the first one signs."""
        return tuple(part.strip() for part in self.jwt_secret.split(",") if part.strip())

    @property
    def socket_rate(self) -> Rate:
        return Rate(self.rate, self.rate_burst)

    @property
    def socket_join_rate(self) -> Rate:
        return Rate(self.join_rate, self.join_burst)

    @property
    def whole_user_rate(self) -> Rate:
        return Rate(self.user_rate, self.user_burst)

    def __repr__(self) -> str:
        changed = (
            f"{knob.name}={_without_secrets(knob.name, getattr(self, knob.name))!r}"
            for knob in fields(self)
            if knob.name != "jwt_secret" and getattr(self, knob.name) != knob.default
        )
        return f"Settings({', '.join(changed)})"

    @classmethod
    def load(cls, given: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Settings:
        """Settings from what was `given`, else from `CHATLAB_*` in `environ` (the process's).

        Raises `SettingsError` for a variable that cannot be read as its setting's type.
        """
        environ = os.environ if environ is None else environ
        values = dict(given)
        for option in fields(cls):
            variable = f"CHATLAB_{option.name.upper()}"
            if option.name not in values and variable in environ:
                try:
                    values[option.name] = parse(option, environ[variable])
                except ValueError as error:
                    raise SettingsError(f"{variable}: {error}") from None
        return cls(**values)

    @staticmethod
    def given_secret(environ: Mapping[str, str] | None = None) -> bool:
        """Whether a secret was given, or `--dev` has to make one."""
        return bool((os.environ if environ is None else environ).get("CHATLAB_JWT_SECRET"))

    @staticmethod
    def storage_from_environment(environ: Mapping[str, str] | None = None) -> str:
        """Where `serve` without `--storage` keeps its messages and users."""
        environ = os.environ if environ is None else environ
        return environ.get("CHATLAB_STORAGE") or "sqlite:///chat.db"

    def _raise_caps(self) -> None:
        if not self.dev:
            raise SettingsError("--no-limits is for benchmarks: give it together with --dev")
        for option in fields(self):
            if option.metadata["cap"]:
                raised = float(_UNCAPPED) if isinstance(option.default, float) else _UNCAPPED
                object.__setattr__(self, option.name, raised)

    def _check_storage(self) -> None:
        if not self.storage:
            default = "memory://" if self.dev else "sqlite:///chat.db"
            object.__setattr__(self, "storage", default)
        scheme = self.storage.partition("://")[0]
        if scheme not in ("sqlite", "memory", *REDIS_SCHEMES):
            raise SettingsError(
                f"--storage {scheme}://… is not known: use sqlite:///relative/path, "
                "sqlite:////absolute/path, memory:// or redis://host:6379/0"
            )
        if scheme == "sqlite" and not self.storage.startswith("sqlite:///"):
            raise SettingsError(
                "--storage sqlite:// takes three slashes for a relative path "
                "(sqlite:///chat.db) and four for an absolute one"
            )

    def _check_secrets(self) -> None:
        minimum = MINIMUM_SECRET[self.jwt_algorithm]
        if not self.jwt_secret and self.dev:
            object.__setattr__(self, "jwt_secret", secrets.token_urlsafe(64))
        if not self.secrets:
            raise SettingsError(
                "CHATLAB_JWT_SECRET is not set: give it at least "
                f"{minimum} random bytes, or start with --dev to try things out"
            )
        if len(self.secrets) > 2:
            raise SettingsError(
                "CHATLAB_JWT_SECRET takes one or two secrets: a comma ends the first"
            )
        for number, secret in enumerate(self.secrets, 1):
            if len(secret.encode()) < minimum:
                raise SettingsError(
                    f"CHATLAB_JWT_SECRET: secret {number} is shorter than {minimum} bytes"
                )

    def _check_networks(self) -> None:
        for network in self.trusted_proxy:
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError:
                raise SettingsError(
                    f"--trusted-proxy {network!r} is not an address or a network"
                ) from None
        for origin in self.origins:
            if origin != "*" and "://" not in origin:
                raise SettingsError(
                    f"--origins {origin!r} is not an origin: write https://chat.example.org, or *"
                )


def options() -> tuple[dataclasses.Field[Any], ...]:
    """The settings in order, for the command line."""
    return fields(Settings)


def parse(option: dataclasses.Field[Any], text: str) -> Any:
    """`text` as a value of the setting's type. Raises `ValueError` with a sentence."""
    kind: type = type(option.default)
    if kind is bool:
        lowered = text.strip().lower()
        if lowered in ("1", "true", "yes", "on"):
            return True
        if lowered in ("", "0", "false", "no", "off"):
            return False
        raise ValueError(f"{text!r} is neither true nor false")
    if kind is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise ValueError(f"{text!r} is not {what}") from None
    return text


def _without_secrets(name: str, value: Any) -> Any:
    scheme, _, address = str(value).partition("://")
    if name == "storage" and scheme in REDIS_SCHEMES and {"@", "?"}.intersection(address):
        return f"{scheme}://…"  # a password may hold either, so no part of it is sure to be none
    return value


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _positive(settings: Settings, name: str, *, zero: bool = False) -> None:
    value = getattr(settings, name)
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise SettingsError(f"{_flag(name)} must be a positive number, not {value!r}")
    if value == 0 and not zero:
        raise SettingsError(f"{_flag(name)} must be more than 0")


def _whole(settings: Settings, name: str, low: int, high: int) -> None:
    value = getattr(settings, name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise SettingsError(f"{_flag(name)} must be a whole number from {low} to {high}")


def _one_of(settings: Settings, name: str, choices: tuple[str, ...]) -> None:
    if getattr(settings, name) not in choices:
        raise SettingsError(f"{_flag(name)} must be one of {', '.join(choices)}")
