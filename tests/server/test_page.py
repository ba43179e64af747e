"""The chat page as HTTP: headers, files, the login of development, and the client's file."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import tarfile
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from chatlab.errors import SettingsError
from chatlab.page import client_file
from chatlab.page import fetch as fetching
from chatlab.page.client_file import CDN, FILE_INTEGRITY, FILE_NAME, kept_at
from chatlab.settings import Settings
from tests.server.child import child
from tests.server.peer import Running, running


@pytest.fixture
async def paged() -> AsyncIterator[Running]:
    async with running(page=True) as run:
        yield run


async def get(run: Running, path: str, **headers: str) -> tuple[int, Any, bytes]:
    async with run.http.get(run.url + path, headers=headers) as answer:
        return answer.status, answer.headers, await answer.read()


def policy(headers: Any) -> dict[str, list[str]]:
    rules = (rule.split() for rule in headers["Content-Security-Policy"].split(";"))
    return {name: sources for name, *sources in rules}


# --- the page and its files ----------------------------------------------------------------------


async def test_without_the_setting_there_is_no_page(chat: Running) -> None:
    for path in ("/", "/page/main.js", "/dev/token"):
        assert (await get(chat, path))[0] == 404
    async with chat.http.post(chat.url + "/dev/token", json={"user": "alice"}) as answer:
        assert answer.status == 404


async def test_the_page_may_run_its_own_files_only_and_nothing_inline(paged: Running) -> None:
    status, headers, body = await get(paged, "/")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-cache"
    rules = policy(headers)
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == ["'none'"]
    assert rules["style-src"] == rules["img-src"] == rules["connect-src"] == ["'self'"]
    assert rules["script-src"][0] == "'self'"
    assert set(rules["script-src"]) <= {"'self'", CDN}
    assert rules["require-trusted-types-for"] == ["'script'"]
    text = body.decode()
    assert "{{" not in text
    assert "style=" not in text
    assert "onclick" not in text
    for script in text.split("<script")[1:]:
        assert script.partition(">")[2].startswith("</script>"), "a script stands in the page"


async def test_only_the_own_origin_frames_the_page_unless_told_otherwise() -> None:
    async with running(page=True, dev=False, storage="memory://") as run:
        _, headers, _ = await get(run, "/")
        assert policy(headers)["frame-ancestors"] == ["'self'"]
    async with running(page=True, frame_ancestors=("https://hub.example.org",)) as run:
        _, headers, _ = await get(run, "/")
        assert policy(headers)["frame-ancestors"] == [
            "'self'", "http://localhost:*", "http://127.0.0.1:*", "https://hub.example.org",
        ]  # fmt: skip


@pytest.mark.parametrize(
    "origin", ["*; script-src *", "https://a b", "https://a,b", "javascript:x", ""]
)
def test_what_may_frame_the_page_cannot_become_another_rule(origin: str) -> None:
    with pytest.raises(SettingsError, match="--frame-ancestors"):
        Settings(dev=True, frame_ancestors=(origin,))


async def test_every_file_that_the_page_names_is_served_with_its_type(paged: Running) -> None:
    types = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8",
             "svg": "image/svg+xml"}  # fmt: skip
    _, _, body = await get(paged, "/")
    named = {part.partition('"')[0] for part in body.decode().split('"page/')[1:]}
    assert {"main.js", "theme.css", "chat.css", "icon.svg"} <= named
    web = Path(client_file.__file__).parent / "web"
    for name in named | {file.name for file in web.iterdir() if file.suffix[1:] in types}:
        status, headers, _ = await get(paged, f"/page/{name}")
        assert status == 200, name
        assert headers["Content-Type"] == types[name.rpartition(".")[2]]
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/page/", "/page/index.html", "/page/nothing.js", "/page/..", "/page/../__init__.py",
        "/page/%2e%2e%2f__init__.py", "/page/..%2froutes.py", "/page/%2fetc%2fpasswd",
        "/page//etc/passwd", "/page/main.js%00.css", "/page/main.js/", "/page/MAIN.JS",
    ],
)  # fmt: skip
async def test_nothing_but_the_listed_files_is_served(paged: Running, path: str) -> None:
    reader_url = paged.url.removeprefix("http://")
    host, _, port = reader_url.partition(":")
    assert (await raw_status(host, int(port), path)) == 404


async def raw_status(host: str, port: int, path: str) -> int:
    """The status of a GET whose path no client library has tidied."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return int((await reader.readline()).split()[1])
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_browser_that_has_a_file_is_told_that_it_has_not_changed(paged: Running) -> None:
    _, headers, _ = await get(paged, "/page/main.js")
    status, again, body = await get(paged, "/page/main.js", **{"If-None-Match": headers["ETag"]})
    assert (status, body) == (304, b"")
    assert again["ETag"] == headers["ETag"]
    assert (await get(paged, "/page/main.js", **{"If-None-Match": '"other"'}))[0] == 200


async def test_the_page_works_on_the_stock_transport_too() -> None:
    with child("--dev", "--page", "--transport", "stock") as server:
        async with aiohttp.ClientSession() as http, http.get(server.url) as answer:
            assert answer.status == 200
            assert policy(answer.headers)["default-src"] == ["'none'"]


# --- the login of development --------------------------------------------------------------------


async def ask(
    run: Running, user: Any = "alice", *, body: bytes | None = None, **headers: str
) -> tuple[int, str]:
    sent = {"Origin": run.url, "Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    data = json.dumps({"user": user}).encode() if body is None else body
    sent = {name: value for name, value in sent.items() if value}
    async with run.http.post(run.url + "/dev/token", data=data, headers=sent) as answer:
        return answer.status, await answer.text()


async def test_in_development_the_page_gets_a_token_for_whoever_is_named(paged: Running) -> None:
    status, text = await ask(paged, "  alice ")
    assert status == 200
    answer = json.loads(text)
    assert set(answer) == {"token", "expiresAt"}
    claims = paged.server.admission.tokens.verify(answer["token"])
    assert claims.sub == "alice"
    assert answer["expiresAt"].endswith("Z")
    assert (await paged.connect("alice", token=answer["token"])).refusal is None


async def test_a_token_is_kept_by_no_cache(paged: Running) -> None:
    headers = {"Origin": paged.url}
    url = paged.url + "/dev/token"
    async with paged.http.post(url, json={"user": "alice"}, headers=headers) as answer:
        assert answer.headers["Cache-Control"] == "no-store"


async def test_without_dev_nobody_gets_a_token() -> None:
    async with running(page=True, dev=False, storage="memory://") as run:
        assert (await ask(run))[0] == 404
        _, _, body = await get(run, "/")
        assert b'data-dev="no"' in body


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
async def test_the_page_of_another_site_gets_no_token(
    paged: Running, headers: dict[str, str]
) -> None:
    status, text = await ask(paged, **headers)
    assert status == 403
    assert "token" not in json.dumps(text) or "eyJ" not in text


async def test_a_form_of_another_site_cannot_ask_as_it_cannot_send_json(paged: Running) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert (await ask(paged, Content_Type=kind))[0] == 415
    asking = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST",
              "Access-Control-Request-Headers": "content-type"}  # fmt: skip
    async with paged.http.options(paged.url + "/dev/token", headers=asking) as answer:
        assert answer.status == 405
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_foreign_name_that_points_at_this_machine_gets_no_token(paged: Running) -> None:
    port = paged.url.rpartition(":")[2]
    rebound = f"rebound.example:{port}"
    status, text = await ask(paged, Host=rebound, Origin=f"http://{rebound}")
    assert status == 403
    assert "--origins" in text
    for name in (
        f"localhost:{port}",
        f"chat.localhost:{port}",
        f"[::1]:{port}",
        f"10.0.0.7:{port}",
    ):
        assert (await ask(paged, Host=name, Origin=f"http://{name}"))[0] == 200, name


async def test_a_name_that_the_operator_has_listed_is_no_foreign_one() -> None:
    async with running(page=True, origins=("http://chat.example:8080",)) as run:
        ours, other = "chat.example:8080", "other.example:8080"
        assert (await ask(run, Host=ours, Origin=f"http://{ours}"))[0] == 200
        assert (await ask(run, Host=other, Origin=f"http://{other}"))[0] == 403
        # Such a page's own requests are still the only ones: the browser says what they are.
        hub = "http://chat.example:8080"
        assert (await ask(run, Origin=hub, Sec_Fetch_Site="same-origin"))[0] == 200
        assert (await ask(run, Origin=hub, Sec_Fetch_Site="cross-site"))[0] == 403
    async with running(page=True, origins=("*",)) as run:
        assert (await ask(run, Host=ours, Origin=f"http://{ours}"))[0] == 403


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"{}", b'{"user": 1}', b'{"user": null}', b'{"user": ""}',
        b'{"user": "  "}', b'{"user": "\\ud800"}', b'{"user": "' + b"x" * 129 + b'"}', b"\xff\xfe",
    ],
)  # fmt: skip
async def test_what_names_no_user_is_answered_with_a_sentence(paged: Running, body: bytes) -> None:
    status, text = await ask(paged, body=body)
    assert status == 400
    assert text.strip()


async def test_a_body_that_is_too_large_is_not_read(paged: Running) -> None:
    assert (await ask(paged, body=b'{"user": "' + b"x" * 5_000 + b'"}'))[0] == 413


async def test_asking_is_all_that_the_endpoint_is_for(paged: Running) -> None:
    assert (await get(paged, "/dev/token"))[0] == 405


# --- the client's file ---------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHATLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path) -> bytes:
    """A small file and its tarball that take the client's place, hashes and all."""
    content = b"window.io = () => {};\n"
    source = folder / "socket.io.min.js"
    folder.mkdir(parents=True, exist_ok=True)
    source.write_bytes(content)
    tarball = folder / fetching.TARBALL
    with tarfile.open(tarball, "w:gz") as archive:
        archive.add(source, arcname=client_file.MEMBER)
    for module in (client_file, fetching):
        monkeypatch.setattr(module, "FILE_INTEGRITY", sri("sha384", content))
    packed = sri("sha512", tarball.read_bytes())
    monkeypatch.setattr(fetching, "TARBALL_INTEGRITY", packed)
    return content


def sri(algorithm: str, data: bytes) -> str:
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"


async def test_the_kept_client_is_served_from_here_for_good(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = stand_in(monkeypatch, tmp_path / "usb")
    assert fetching.fetch(tmp_path / "usb") == kept_at()
    async with running(page=True) as run:
        status, headers, body = await get(run, f"/page/{FILE_NAME}")
        assert (status, body) == (200, content)
        assert "immutable" in headers["Cache-Control"]
        _, headers, body = await get(run, "/")
        assert policy(headers)["script-src"] == ["'self'"]
        assert f'src="page/{FILE_NAME}"'.encode() in body
        assert b'data-client="local"' in body


async def test_without_the_client_the_page_takes_the_cdns_by_its_hash_and_says_so(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="chatlab.page"):
        async with running(page=True) as run:
            status, _, _ = await get(run, f"/page/{FILE_NAME}")
            assert status == 404
            _, headers, body = await get(run, "/")
    assert policy(headers)["script-src"] == ["'self'", CDN]
    text = body.decode()
    assert f'src="{CDN}"' in text
    assert f'integrity="{FILE_INTEGRITY}" crossorigin="anonymous"' in text
    assert 'data-client="cdn"' in text
    assert "python -m chatlab.page.fetch" in caplog.text


async def test_a_kept_file_that_is_not_the_published_one_is_never_served(cache: Path) -> None:
    kept_at().parent.mkdir(parents=True)
    kept_at().write_bytes(b"alert('not the client')")
    async with running(page=True) as run:
        assert (await get(run, f"/page/{FILE_NAME}"))[0] == 404
        _, headers, _ = await get(run, "/")
        assert CDN in policy(headers)["script-src"]


def test_a_tarball_that_is_not_the_published_one_is_not_kept(cache: Path, tmp_path: Path) -> None:
    (tmp_path / fetching.TARBALL).write_bytes(b"something else")
    with pytest.raises(fetching.FetchError, match="integrity is wrong"):
        fetching.fetch(tmp_path)
    assert not kept_at().exists()


def test_what_a_wrong_tarball_left_behind_is_not_kept_either(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, tmp_path / "usb")
    monkeypatch.setattr(fetching, "FILE_INTEGRITY", FILE_INTEGRITY)
    with pytest.raises(fetching.FetchError, match="not the published one"):
        fetching.fetch(tmp_path / "usb")
    assert not kept_at().exists()


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A registry on this machine that has the stand-in; the paths that it was asked for."""
    stand_in(monkeypatch, tmp_path / "registry")
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write((tmp_path / "registry" / fetching.TARBALL).read_bytes())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_port}/npm")
    try:
        yield asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_client_is_fetched_once_from_the_registry_that_npm_is_told_of(
    cache: Path, registry: list[str]
) -> None:
    fetching.fetch()
    fetching.fetch()
    assert registry == [f"/npm/socket.io-client/-/{fetching.TARBALL}"]
    assert kept_at().is_file()
    assert [path.name for path in kept_at().parent.iterdir()] == [FILE_NAME]


def test_a_set_up_without_a_network_goes_on_with_one_sentence(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:1/")
    monkeypatch.setenv("PATH", "")  # nor does npm help
    assert fetching.main([]) == 0
    said = capsys.readouterr().err
    assert said.startswith("socket.io-client 4.8.4 was not fetched: ")
    assert said.count("\n") == 1


def test_a_folder_without_the_tarball_is_named(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetching.main(["--from", str(tmp_path)]) == 0
    assert str(tmp_path) in capsys.readouterr().err


def test_the_hashes_are_those_of_the_tests_own_package() -> None:
    root = Path(__file__).resolve().parents[1] / "js"
    lock = json.loads((root / "package-lock.json").read_text())
    entry = lock["packages"]["node_modules/socket.io-client"]
    assert entry["version"] == client_file.VERSION
    assert entry["integrity"] == client_file.TARBALL_INTEGRITY
    installed = root / "node_modules" / "socket.io-client" / "dist" / "socket.io.min.js"
    if installed.exists():
        assert sri("sha384", installed.read_bytes()) == FILE_INTEGRITY
