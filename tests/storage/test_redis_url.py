"""What `--storage` takes for Redis: every form is read, others are refused, no secret is shown."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection

from chatlab.errors import SettingsError
from chatlab.lab import Valkey
from chatlab.settings import REDIS_SCHEMES
from chatlab.storage.redis_url import SCHEMES, locate
from tests.storage.nodes import some_prefix
from tests.storage.rooms import Rooms
from tests.waiting import until

SECRET = "s3cr/t?#@:%"
QUOTED = "s3cr%2Ft%3F%23%40%3A%25"


def test_the_settings_know_every_form():
    assert set(REDIS_SCHEMES) == set(SCHEMES)


# --- one server --------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
def test_a_plain_address(scheme):
    location = locate(f"{scheme}://cache.example:7000/3")
    assert location.kind == "single"
    assert location.options == {
        "connection_class": Connection,
        "host": "cache.example",
        "port": 7000,
        "db": 3,
    }
    assert location.database == 3
    assert location.shown == f"{scheme}://cache.example:7000/3"
    assert location.prefix == "chatlab"


@pytest.mark.parametrize(
    ("url", "host", "port", "database"),
    [
        ("redis://localhost", "localhost", 6379, 0),
        ("redis://localhost/", "localhost", 6379, 0),
        ("redis://localhost:1/2?db=5", "localhost", 1, 5),
        ("redis://[::1]:7000/1", "::1", 7000, 1),
        ("redis://[fe80::1%25eth0]", "fe80::1%eth0", 6379, 0),
        ("valkeys://h", "h", 6379, 0),
    ],
)
def test_what_is_not_said_has_its_usual_value(url, host, port, database):
    location = locate(url)
    assert (location.options["host"], location.options["port"]) == (host, port)
    assert location.database == location.options["db"] == database


@pytest.mark.parametrize(
    "url",
    [
        f"redis://alice:{QUOTED}@h",
        f"redis://h?username=alice&password={QUOTED}",
        f"redis+cluster://alice:{QUOTED}@h1,h2",
        f"redis+sentinel://alice:{QUOTED}@h1,h2/service",
        f"unix://alice:{QUOTED}@/run/valkey.sock",
    ],
)
def test_a_login_may_hold_any_sign_and_is_never_shown(url):
    location = locate(url)
    assert location.options["username"] == "alice"
    assert location.options["password"] == SECRET
    for shown in (location.shown, repr(location), str(location)):
        assert "alice" not in shown
        assert "s3cr" not in shown


def test_a_password_needs_no_user():
    assert locate("redis://:secret@h").options["password"] == "secret"
    assert "username" not in locate("redis://:secret@h").options


def test_a_unix_socket():
    location = locate("unix:///run/val%20key.sock?db=2&prefix=mine")
    assert location.kind == "single"
    assert location.options == {
        "connection_class": UnixDomainSocketConnection,
        "path": "/run/val key.sock",
        "db": 2,
    }
    assert (location.database, location.prefix) == (2, "mine")


@pytest.mark.parametrize("scheme", ["rediss", "valkeys", "rediss+cluster", "valkeys+sentinel"])
def test_tls_and_its_options(scheme):
    end = "/service" if "sentinel" in scheme else ""
    location = locate(
        f"{scheme}://h{end}?ssl_ca_certs=/etc/ca.pem&ssl_check_hostname=false&ssl_cert_reqs=none"
    )
    tls = {
        "connection_class": SSLConnection,
        "ssl_ca_certs": "/etc/ca.pem",
        "ssl_check_hostname": False,
        "ssl_cert_reqs": "none",
    }
    assert location.options.items() >= tls.items()
    if "sentinel" in scheme:
        assert location.sentinel_options == tls


# --- several -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["redis+sentinel", "valkey+sentinel"])
def test_sentinels_a_service_and_a_database(scheme):
    location = locate(
        f"{scheme}://bob:one@h1,h2:7,[::1]:8/my%2Fchat/4"
        "?sentinel_username=guard&sentinel_password=two&prefix=p"
    )
    assert location.kind == "sentinel"
    assert location.hosts == (("h1", 26379), ("h2", 7), ("::1", 8))
    assert (location.service, location.database, location.prefix) == ("my/chat", 4, "p")
    assert location.options["password"] == "one"
    assert location.sentinel_options == {
        "connection_class": Connection,
        "username": "guard",
        "password": "two",
    }
    assert location.shown == f"{scheme}://h1,h2:7,[::1]:8/my%2Fchat/4"


def test_the_nodes_of_a_cluster():
    location = locate("redis+cluster://bob:one@h1,h2:7")
    assert location.kind == "cluster"
    assert location.hosts == (("h1", 6379), ("h2", 7))
    assert location.shown == "redis+cluster://h1,h2:7"
    assert location.database == 0


# --- refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("memcached://h", "expected one of redis, "),
        ("redis:h", "expected one of redis, "),
        ("redis://", "redis://user:password@host:6379/0"),
        ("redis://h:99999", "redis://user:password@host:6379/0"),
        ("redis://h:0", "redis://user:password@host:6379/0"),
        ("redis://h:port", "redis://user:password@host:6379/0"),
        ("redis://[::1", "redis://user:password@host:6379/0"),
        ("redis://h/general", "a database is a number"),
        ("redis://h/-1", "a database is a number"),
        ("redis://h/1/2", "a database is a number"),
        ("redis://h?db=x", "a database is a number"),
        ("redis://h?timeout=3", "'timeout' is not an option of a redis:// address; those are db, "),
        ("redis://h?ssl_ca_certs=/x", "is for a connection over TLS: write rediss://"),
        (
            "valkey+cluster://h?ssl_keyfile=/x",
            "is for a connection over TLS: write valkeys+cluster",
        ),
        ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs is one of none, optional, required"),
        ("rediss://h?ssl_check_hostname=maybe", "ssl_check_hostname is true or false"),
        ("redis://h?prefix=a{b}", "prefix= may hold letters"),
        ("redis://h?prefix=", "prefix= may hold letters"),
        ("unix://", "whole path"),
        ("unix:///", "whole path"),
        ("unix://run/valkey.sock", "whole path"),
        ("redis+sentinel://h1,h2", "ends with the service's name"),
        ("redis+sentinel://h1,,h2/service", "cannot be read as an address"),
        ("redis+sentinel://h1/service/x", "a database is a number"),
        ("redis+cluster://h1/2", "a cluster has one database"),
        ("redis+cluster://h1?db=2", "'db' is not an option"),
        ("redis+cluster://h1?sentinel_password=x", "'sentinel_password' is not an option"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_sentence(url, sentence):
    with pytest.raises(SettingsError) as refused:
        locate(url)
    assert sentence in str(refused.value)
    assert "--storage" in str(refused.value)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "secret",
    ["s3c/ret", "s3c?ret", "s3c#ret", "s3c@ret", "12/s3c", "12?s3c=1", "s3c[ret", "12#s3c"],
)
def test_a_password_with_a_sign_that_ends_it_early_is_not_shown(scheme, secret):
    try:
        shown = repr(locate(f"{scheme}://alice:{secret}@h:1/service/x?nonsense=1"))
    except SettingsError as refused:
        shown = f"{refused} {refused.__cause__}"
    assert "s3c" not in shown
    assert "alice" not in shown


# --- against real servers ----------------------------------------------------------------------


async def works(url: str) -> None:
    """A message goes through."""
    sign = "&" if "?" in url else "?"
    async with Rooms("redis", f"{url}{sign}prefix={some_prefix()}", clock=None) as rooms:
        await rooms.log.follow("general")
        await rooms.send("hello")
        await until(lambda: len(rooms.fed["general"]) == 1)


async def refusal(url: str, *, patience: float = 0.3) -> str:
    """Why a server with this address does not start."""
    rooms = Rooms("redis", url, clock=None)
    with pytest.raises(SettingsError) as refused:
        await rooms.log.nodes.open(patience=patience)
    return str(refused.value)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A Valkey with a password, on a port and on a unix socket."""
    socket = tmp_path_factory.mktemp("socket") / "valkey.sock"
    arguments = ("--requirepass", SECRET, "--unixsocket", str(socket))
    store = Valkey(persist=False, name="guarded", arguments=arguments)
    store.socket = str(socket)
    yield store
    store.stop()


async def test_a_password_opens_the_door_and_a_wrong_one_does_not(guarded):
    await works(f"redis://:{QUOTED}@127.0.0.1:{guarded.port}")
    await works(f"valkey://default:{QUOTED}@127.0.0.1:{guarded.port}/5")
    wrong = await refusal(f"redis://:wrong-one@127.0.0.1:{guarded.port}/0")
    assert f"--storage redis://127.0.0.1:{guarded.port}/0 cannot be used: " in wrong
    assert "password" in wrong
    assert "wrong-one" not in wrong
    assert "Authentication required" in await refusal(f"redis://127.0.0.1:{guarded.port}")


async def test_a_unix_socket_works_as_a_port_does(guarded):
    await works(f"unix://:{QUOTED}@{guarded.socket}?db=2")
    assert "No such file" in await refusal("unix:///nowhere/valkey.sock")


async def test_a_server_that_is_silent_is_refused_with_that_reason():
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append(writer)
        with contextlib.suppress(OSError):
            while await reader.read(1_000):
                pass
        writer.close()
        callers.remove(writer)

    callers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    rooms = Rooms("redis", f"redis://127.0.0.1:{port}", clock=None, stalled_after=0.1)
    with pytest.raises(SettingsError, match="cannot be used: silent for 0.1 s"):
        await rooms.log.nodes.open(patience=0.3)
    server.close()
    await until(lambda: not callers)


# The wheel's Valkey is built without TLS, so a door with TLS stands before it.
@asynccontextmanager
async def behind_tls(target: Valkey, certificate: Path) -> AsyncIterator[int]:
    tasks: set[asyncio.Task[None] | None] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.transport.abort()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        inner, outer = await asyncio.open_connection("127.0.0.1", target.port)
        await asyncio.gather(pump(reader, outer), pump(inner, writer))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await asyncio.gather(*[task for task in tasks if task])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1, with its key."""
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-keyout", file, "-out", file]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=20)
    except FileNotFoundError:
        pytest.skip("this machine has no openssl to make a certificate with")
    assert done.returncode == 0, done.stderr
    return file


async def test_tls_is_checked_and_used(guarded, certificate):
    async with behind_tls(guarded, certificate) as port:
        url = f"rediss://:{QUOTED}@127.0.0.1:{port}"
        await works(f"{url}?ssl_ca_certs={certificate}")
        await works(f"{url}?ssl_cert_reqs=none&ssl_check_hostname=false")
        assert "certificate verify failed" in (await refusal(url, patience=1.5)).lower()
