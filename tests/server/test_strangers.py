"""Connections of whoever is no client: silent ones, half requests, and what is no HTTP."""

from __future__ import annotations

import asyncio

import pytest

from tests.server.child import Child, child


async def talk(server: Child, said: bytes) -> bytes:
    """Send this and read until the server closes."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(said)
        async with asyncio.timeout(8):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("said", [b"", b"GET /hea", b"GET /healthz HTTP/1.1\r\nHost: a\r\n"])
async def test_a_connection_that_sends_no_whole_request_is_closed(said: bytes) -> None:
    with child("--dev", "--connect-timeout", "0.2") as server:
        assert await talk(server, said) == b""


async def test_a_request_that_was_refused_does_not_wait_long_for_its_body() -> None:
    half = b"PUT /socket.io/?EIO=4 HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\nabc"
    with child("--dev") as server:
        answer = await talk(server, half)  # aiohttp's own patience is longer than the test's
    assert answer.startswith(b"HTTP/1.1 400")


async def test_what_is_no_http_is_a_line_of_the_log_without_a_traceback() -> None:
    with child("--dev") as server:
        for _ in range(20):
            answer = await talk(server, b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n")
            assert answer.startswith(b"HTTP/1.0 400")
        server.process.terminate()
        assert await asyncio.to_thread(server.end) == 0
    assert "Traceback" not in server.errors
    lines = [line for line in server.errors.splitlines() if "sent what is no HTTP" in line]
    assert len(lines) == 6
    assert "INFO    127.0.0.1 sent what is no HTTP: BadHttpMessage" in lines[0]
    assert "and 15 more about 127.0.0.1" in lines[-1]
