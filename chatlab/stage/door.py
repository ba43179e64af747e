"""The one way in from other machines: a Caddy of its own that passes on the chat and nothing else.

It lets the chat page, Socket.IO and the page to join by code through. The stage's control, a
server's health, metrics and everything else are not behind it.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from chatlab.lab.balancer import find_balancer
from chatlab.lab.part import url_of
from chatlab.lab.ports import IN_USE
from chatlab.lab.process import Process

__all__ = ["Door", "qr_of", "reachable"]

_PATIENCE: Final = 10.0
_CADDY: Final = """\
{
	admin off
	auto_https off
	persist_config off
	grace_period 300ms
	servers {
		timeouts {
			read_header 10s
		}
		max_header_size 16KB
	}
	log {
		level WARN
	}
}

http://:%(port)d {
	bind %(host)s
	@chat path /socket.io/ /socket.io/*
	@pages path / /page/*
	@join path /join /join/*
	handle @chat {
		reverse_proxy %(servers)s {
			lb_policy cookie door {
				fallback round_robin
			}
			lb_try_duration 1s
			lb_try_interval 50ms
			fail_duration 1s
			health_uri /healthz
			health_interval 500ms
			health_timeout 1s
			header_up -X-Lab-Name
		}
	}
	handle @pages {
		reverse_proxy %(outside)s
	}
	handle @join {
		request_body {
			max_size 2KB
		}
		reverse_proxy %(outside)s
	}
	handle %(probe)s {
		respond 200
	}
	handle {
		respond "There is only a chat here: go to /join" 404
	}
}
"""


class Door(Process):
    """Open when it is made. `host` is an address of this machine, `port` a free port of it.

    `servers` are who chats, `outside` who serves the pages. Raises `RuntimeError`, with the last
    lines of Caddy's log, when it cannot be opened.
    """

    def __init__(
        self, servers: Sequence[object], outside: str, *, host: str, port: int, name: str
    ) -> None:
        program = find_balancer("caddy")
        self.host, self.port = host, port
        self._probe = f"/door-{secrets.token_hex(8)}"
        self._folder = folder = Path(tempfile.mkdtemp(prefix="chatlab-door-"))
        self._values = {
            "host": host,
            "port": port,
            "probe": self._probe,
            "servers": " ".join(_place(server) for server in servers),
            "outside": _place(outside),
        }
        try:
            super().__init__(
                name=name,
                command=[program, "run", "--adapter", "caddyfile", "--config", str(self._file)],
                env={home: str(folder) for home in ("XDG_DATA_HOME", "XDG_CONFIG_HOME")},
                ready=None,
                timeout=_PATIENCE,
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    @property
    def _file(self) -> Path:
        return (self._folder or Path()) / "Caddyfile"

    def _start(self) -> None:
        if self._folder is not None:
            self._folder.mkdir(exist_ok=True)
        self._file.write_text(_CADDY % self._values, encoding="utf-8")
        super()._start()
        deadline = time.monotonic() + _PATIENCE
        while self.running and time.monotonic() < deadline:
            if self._answers():
                return
            time.sleep(0.01)
        last = "\n".join(list(self._lines)[-6:])
        if IN_USE in last:
            raise RuntimeError(f"port {self.port} of {self.host} is taken")
        raise RuntimeError(f"the door could not be opened on {self.host}: {last}")

    def _answers(self) -> bool:
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked for by name
        place = (anywhere.get(self.host, self.host), self.port)
        with contextlib.suppress(OSError), socket.create_connection(place, timeout=0.3) as asking:
            asking.settimeout(0.5)
            asking.sendall(f"GET {self._probe} HTTP/1.0\r\nHost: door\r\n\r\n".encode())
            return b" 200 " in asking.recv(64)
        return False

    def stop(self) -> Self:
        """Close it: whoever came through it is outside again. Removes its files."""
        super().stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        return self


def reachable(host: str) -> str:
    """The address by which a phone finds `host`, which may be all of this machine's addresses."""
    if host not in ("0.0.0.0", "::"):  # noqa: S104
        return f"[{host}]" if ":" in host else host
    family = socket.AF_INET6 if host == "::" else socket.AF_INET
    somewhere = "2001:db8::1" if host == "::" else "192.0.2.1"  # nothing is sent there
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((somewhere, 9))
            found = str(asking.getsockname()[0])
        except OSError:
            found = socket.gethostname()
    return f"[{found}]" if ":" in found else found


def qr_of(address: str) -> str:
    """A QR code as the address of an image (`data:image/svg+xml,…`), black on white."""
    import segno  # part of the workshop's install, and needed only where there is a door

    code = segno.make(address, error="m", micro=False)
    return str(code.svg_data_uri(scale=8, border=4, dark="#000", light="#fff"))


def _place(target: object) -> str:
    return urlsplit(url_of(target)).netloc
