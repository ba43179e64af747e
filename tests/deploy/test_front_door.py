"""Servers, Valkey and Caddy as in compose.yaml, run by its command lines but without containers."""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from chatlab.lab.tokens import mint
from tests.deploy.files import ROOT
from tests.deploy.stack import ADDRESSES, SECRET, Stack, stack
from tests.waiting import wait_until

TALK = Path(__file__).with_name("talk.py")
CROWD = 6

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address"),
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, installed: Path
) -> Iterator[tuple[Stack, list[Any]]]:
    """A deployment of two servers."""
    with stack(tmp_path_factory.mktemp("stack"), installed) as whole:
        whole.valkey()
        servers = [whole.server(number) for number in (0, 1)]
        whole.names.addresses = list(ADDRESSES[:2])
        whole.caddy()
        yield whole, servers


def get(where: Stack, path: str, **headers: str) -> tuple[int, bytes]:
    trusted = ssl.create_default_context(cafile=where.authority)
    asking = http.client.HTTPSConnection("localhost", where.https, context=trusted, timeout=10)
    try:
        asking.request("GET", path, headers=headers)
        answer = asking.getresponse()
        return answer.status, answer.read()
    finally:
        asking.close()


def test_the_front_door_has_a_certificate_of_caddys_own_authority(running: Any) -> None:
    where, _ = running
    status, body = get(where, "/healthz")
    assert status == 200
    assert json.loads(body)["storage"] == "redis"


def test_who_comes_without_tls_is_sent_to_it(running: Any) -> None:
    where, _ = running
    asking = http.client.HTTPConnection("localhost", where.http, timeout=10)
    asking.request("GET", "/socket.io/?EIO=4")
    answer = asking.getresponse()
    asking.close()
    assert answer.status == 308
    assert str(answer.getheader("Location")).startswith("https://localhost")


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/metrics/",
        "//metrics",
        "/METRICS",
        "/page/../metrics",
        "/%6detrics",
        "/dev/token",
    ],
)
def test_what_is_not_for_everybody_is_not_found_there(running: Any, path: str) -> None:
    where, _ = running
    status, body = get(where, path)
    assert (status, body) == (404, b"")


def test_the_page_is_served_there(running: Any) -> None:
    where, _ = running
    status, body = get(where, "/")
    assert status == 200
    assert b"<html" in body


@pytest.mark.parametrize(("host", "status"), [("localhost", 101), ("evil.example", 403)])
def test_a_browser_gets_in_from_the_sites_own_page_only(
    running: Any, host: str, status: int
) -> None:
    where, _ = running
    port = f":{where.https}" if host == "localhost" else ""
    asked, _ = get(
        where,
        "/socket.io/?EIO=4&transport=websocket",
        Origin=f"https://{host}{port}",
        Connection="Upgrade",
        Upgrade="websocket",
        **{"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version": "13"},
    )
    assert asked == status


def test_valkey_has_understood_what_compose_tells_it(running: Any) -> None:
    where, _ = running
    with redis.Redis(port=where.store) as asking:
        told = {
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
            "maxmemory": str(1536 * 1024 * 1024),
        }
        assert asking.config_get(*told) == told


class Crowd:
    """Clients that talk in a process of their own, with Caddy's authority among those it trusts."""

    def __init__(self, where: Stack) -> None:
        self._process = subprocess.Popen(
            [sys.executable, TALK, where.url],
            env={**os.environ, "PYTHONPATH": str(ROOT), "SSL_CERT_FILE": str(where.authority)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        tokens = [mint(f"user-{number}", secret=SECRET) for number in range(CROWD)]
        assert self.ask(json.dumps(tokens)) == {"in": CROWD}

    def ask(self, line: str = "go") -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


def test_the_talk_goes_on_through_kill_restart_and_scaling(running: Any) -> None:
    where, servers = running
    users = [f"user-{number}" for number in range(CROWD)]
    for user in users:
        add = [str(where.installed / "bin" / "chatlab"), "user", "add", user]
        subprocess.run([*add, f"--storage=redis://127.0.0.1:{where.store}/0"], check=True)
    crowd = Crowd(where)
    try:
        assert crowd.ask() == {"orders": 1, "heard": [CROWD] * CROWD}
        # The name still has both addresses: Caddy has to notice by itself.
        servers[0].kill()
        assert crowd.ask() == {"orders": 1, "heard": [2 * CROWD] * CROWD}
        where.names.addresses = [ADDRESSES[1]]
        servers.append(where.server(2))
        where.names.addresses = [ADDRESSES[1], ADDRESSES[2]]
        servers[1].terminate()
        assert crowd.ask() == {"orders": 1, "heard": [3 * CROWD] * CROWD}
    finally:
        crowd.close()
    # A poll that no server is left for is logged apart from the others, as an error.
    for server in servers:
        server.stop()
    status, _ = get(where, "/socket.io/?EIO=4&transport=polling&sid=SECRET")
    assert status in (502, 503)
    # What Caddy has said reaches us through a pipe, a moment after its answer.
    log = caddy_log(where, until='"level":"error"')
    # Half of the crowd polled: its sessions' ids were in the addresses that Caddy logged.
    assert "transport=polling" in log
    assert "sid=-" in log
    assert not re.search(r"sid=[^-]", log)


def caddy_log(where: Stack, *, until: str) -> str:
    """The whole log, once `until` is in it."""
    front = next(part for part in where.parts if part.name == "deploy-front")
    wait_until(lambda: until in str(front.logs()), what=f"{until} in Caddy's log")
    return str(front.logs())


def test_caddy_says_that_it_is_well_where_compose_asks(running: Any) -> None:
    where, _ = running
    asked = where.service("caddy")["healthcheck"]["test"][-1]
    address = asked.replace(":2019/", f":{where.admin}/")
    assert address != asked
    with urllib.request.urlopen(address, timeout=5) as answer:
        assert answer.status == 200
