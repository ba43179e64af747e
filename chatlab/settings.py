"""Every knob of the server, in one frozen dataclass that is validated when it is made.

A value comes from the command line, else from its `CHATLAB_*` variable, else from the default
below. What a wrong value is answered with is a sentence, at start, not a traceback at night.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from chatlab.errors import SettingsError
from chatlab.knobs import UNCAPPED, check, from_file, knob, parse

__all__ = ["REDIS_SCHEMES", "Rate", "Settings", "options"]

# Bytes of a secret, by algorithm: RFC 7518 section 3.2.
MINIMUM_SECRET: Final = {"HS256": 32, "HS384": 48, "HS512": 64}

# As container engines and systemd hand out secrets: not in the environment, which more can read.
_SECRET_FILE: Final = "CHATLAB_JWT_SECRET_FILE"  # noqa: S105 - the name of a variable

# What may stand before :// where messages are kept in Redis or Valkey.
_REDIS: Final = ("redis", "rediss", "valkey", "valkeys")
REDIS_SCHEMES: Final = (
    *_REDIS,
    "unix",
    *(f"{name}+{kind}" for kind in ("sentinel", "cluster") for name in _REDIS),
)

_FRAMING: Final = re.compile(r"https?://[A-Za-z0-9*.\-\[\]:]+")


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: `per_second` tokens flow in, `burst` fit."""

    per_second: float
    burst: int


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Raises `SettingsError` with one sentence when a value cannot be used."""

    host: str = knob("127.0.0.1", "address to listen on")
    port: int = knob(3001, "port to listen on; 0 picks a free one", low=0, high=65_535)
    storage: str = knob(
        "",
        "where messages are kept: sqlite:///chat.db (default), memory:// (default with --dev), or "
        "for several servers redis://host:6379/0 (also rediss, valkey, unix, redis+sentinel and "
        "redis+cluster)",
    )
    sqlite_sync: str = knob(
        "full",
        "full: acked messages survive a power cut; normal: only the death of the process",
        choices=("full", "normal"),
    )
    transport: str = knob(
        "strict",
        "what the chat runs on: strict is chatlab's own classes under python-socketio; stock is "
        "python-socketio as it comes, for comparison only: it bounds and promises less",
        choices=("strict", "stock"),
    )
    dev: bool = knob(False, "development: make a secret, admit any user a valid token names")
    no_limits: bool = knob(False, "raise every cap, for benchmarks; with --dev only")

    jwt_secret: str = knob("", "signs and verifies tokens; two, comma between: the first signs")
    jwt_issuer: str = knob("chatlab", "required `iss` of a token")
    jwt_audience: str = knob("chatlab", "required `aud` of a token")
    jwt_algorithm: str = knob("HS256", "the one accepted algorithm", choices=tuple(MINIMUM_SECRET))

    ping_interval: float = knob(25.0, "seconds between pings")
    ping_timeout: float = knob(20.0, "seconds to wait for a pong")
    connect_timeout: float = knob(10.0, "seconds in which a socket must have sent CONNECT")
    storage_timeout: float = knob(2.0, "seconds after which storage that is silent is unavailable")
    handler_timeout: float = knob(10.0, "seconds after which a handler that hangs is a failure")
    shutdown_grace: float = knob(
        1.5, "seconds for what is in hand when the server is stopped", low=0
    )
    presence_ttl: float = knob(
        15.0, "seconds after which the users of a server that died count as gone (Redis only)"
    )
    drain: float = knob(0.0, "seconds to go on serving with /healthz at 503 before closing", low=0)

    max_frame: int = knob(65_536, "bytes of a frame or a polling body", cap=True, low=1_024)
    # 64 KB hold 32,768 packets of one byte: 100 ms in which nobody else is served, where a
    # thousand take 3. Of a thousand events sent in one go all but 20 would be over the rate.
    max_payload_packets: int = knob(1_000, "packets in one polling body", cap=True)
    max_unread: int = knob(1_048_576, "bytes waiting to be read by one client", cap=True)
    max_message: int = knob(4_000, "code points of a message, after trimming")
    max_connections_per_user: int = knob(20, "sockets of one user", cap=True)
    max_connections_per_address: int = knob(0, "sockets of one address; 0 is no limit", low=0)
    max_rooms_per_socket: int = knob(50, "rooms that one socket may be in", cap=True)
    max_unauthenticated: int = knob(1_000, "sockets that have not sent CONNECT yet", cap=True)
    max_unauthenticated_per_address: int = knob(
        100, "such sockets of one address; 0 is no limit", cap=True, low=0
    )
    max_pending: int = knob(256, "events of one socket in hand, past which reading pauses")
    max_attachments: int = knob(0, "binary attachments of a packet; chat has none", low=0)

    rate: float = knob(10.0, "events a second of one socket", cap=True)
    rate_burst: int = knob(20, "burst of one socket", cap=True)
    join_rate: float = knob(10.0, "joins and leaves a second of one socket", cap=True)
    join_burst: int = knob(50, "burst of joins and leaves of one socket", cap=True)
    user_rate: float = knob(20.0, "events a second of one user over all sockets", cap=True)
    user_burst: int = knob(40, "burst of one user", cap=True)
    user_frame_rate: float = knob(
        200.0,
        "raw frames a second of one user over all sockets, past which reading pauses",
        cap=True,
    )
    user_frame_burst: int = knob(1_000, "burst of raw frames of one user", cap=True)

    history: int = knob(10_000, "messages kept in a room")
    key_ttl: float = knob(86_400.0, "seconds for which an idempotency key is remembered")

    origins: tuple[str, ...] = knob(
        (), "origins allowed besides the server's own, comma between; * is all"
    )
    trusted_proxy: tuple[str, ...] = knob(
        (), "addresses or networks whose X-Forwarded-* headers count, comma between"
    )
    page: bool = knob(False, "serve the chat page at /")
    frame_ancestors: tuple[str, ...] = knob(
        (),
        "origins whose pages may show the chat page in a frame, comma between; with --dev those "
        "of this machine may",
    )
    metrics_public: bool = knob(False, "serve /metrics to other machines too")
    polling: bool = knob(True, "accept HTTP long-polling besides websocket")
    compression: bool = knob(False, "offer permessage-deflate; costs CPU and memory")
    log_level: str = knob(
        "info", "the least that is logged", choices=("debug", "info", "warning", "error")
    )
    log_format: str = knob(
        "text", "one line each on stderr, for a person or as JSON", choices=("text", "json")
    )
    log_lines: int = knob(
        5, "log lines of one kind about one client in a minute; 0 is no limit", low=0
    )

    def __post_init__(self) -> None:
        for option in fields(self):
            check(option, getattr(self, option.name))
        if self.max_unread < self.max_frame:
            raise SettingsError(
                f"--max-unread must be at least --max-frame, which is {self.max_frame}"
            )
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

    @property
    def whole_user_frame_rate(self) -> Rate:
        return Rate(self.user_frame_rate, self.user_frame_burst)

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

        The secret may be in a file instead, which `CHATLAB_JWT_SECRET_FILE` names. Raises
        `SettingsError` for a variable that cannot be read as its setting's type, or such a file.
        """
        environ = os.environ if environ is None else environ
        values = dict(given)
        if (path := environ.get(_SECRET_FILE)) and "jwt_secret" not in values:
            if environ.get("CHATLAB_JWT_SECRET"):
                raise SettingsError(f"CHATLAB_JWT_SECRET and {_SECRET_FILE} are set: give one")
            try:
                values["jwt_secret"] = from_file(path)
            except ValueError as error:
                raise SettingsError(f"{_SECRET_FILE}: {error}") from None
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
        environ = os.environ if environ is None else environ
        return bool(environ.get("CHATLAB_JWT_SECRET") or environ.get(_SECRET_FILE))

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
                raised = float(UNCAPPED) if isinstance(option.default, float) else UNCAPPED
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
        for origin in self.frame_ancestors:
            # It becomes part of a header, where a semicolon would begin another rule.
            if not _FRAMING.fullmatch(origin):
                raise SettingsError(
                    f"--frame-ancestors {origin!r} is not an origin: write "
                    "https://hub.example.org or http://localhost:*"
                )


def options() -> tuple[dataclasses.Field[Any], ...]:
    """The settings in order, for the command line."""
    return fields(Settings)


def _without_secrets(name: str, value: Any) -> Any:
    scheme, _, address = str(value).partition("://")
    if name == "storage" and scheme in REDIS_SCHEMES and {"@", "?"}.intersection(address):
        return f"{scheme}://…"  # a password may hold either, so no part of it is sure to be none
    return value
