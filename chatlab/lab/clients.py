"""A Socket.IO client that does nothing by itself, and remembers what it did and saw.

It is python-socketio's `AsyncClient` without reconnection: what a lesson shows of it is what the
library does. The client for real use, which retries and catches up, is `chatlab.client`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import quote

import aiohttp
import engineio
import socketio

from chatlab.lab.logs import quiet_logger
from chatlab.lab.packets import Assembler, Seen, of_parts
from chatlab.lab.part import url_of
from chatlab.lab.tap import NAME_HEADER
from chatlab.lab.witness import Witness

__all__ = ["RawClient", "Refused", "raw_client"]

# How long to wait for the other side's goodbye; behind a silent wire it never comes.
_GOODBYE = 0.3


class Refused(socketio.exceptions.ConnectionError):  # type: ignore[misc]
    """The server said no. `message` and `data` are what it sent in its connect error.

    `client` is the client that was refused, for its record.
    """

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message if data is None else f"{message} {data!r}")
        self.message = message
        self.data = data
        self.client: RawClient | None = None

    @property
    def code(self) -> str | None:
        """The word for a program, where the server sent one."""
        return self.data.get("code") if isinstance(self.data, dict) else None

    def __repr__(self) -> str:
        return f"Refused({str(self)!r})"


@dataclass(frozen=True, slots=True)
class _Target:
    url: str
    auth: Any
    transports: Sequence[str]
    wait: bool
    timeout: float
    headers: dict[str, str]


class RawClient(Witness, socketio.AsyncClient):  # type: ignore[misc]
    """python-socketio's client, never reconnecting, with a record. Made by `raw_client`."""

    def __init__(self, name: str = "client") -> None:
        self._remember(name, "client")
        super().__init__(
            reconnection=False,
            handle_sigint=False,
            logger=quiet_logger("socketio.client", self._book),
            engineio_logger=quiet_logger("engineio.client", self._book),
            websocket_extra_options={"timeout": aiohttp.ClientWSTimeout(ws_close=_GOODBYE)},
        )
        self.refused: Refused | None = None
        self._incoming = Assembler()

    async def wait_until_disconnected(self, *, timeout: float = 5.0) -> None:
        """Wait until it has noticed that its connection is gone.

        Raises `TimeoutError` after `timeout` seconds: behind a silent wire it notices nothing.
        """
        try:
            await self._inbox.wait_for(lambda _: not self.connected, timeout=timeout)
        except TimeoutError:
            raise TimeoutError(f"{self.name} still believes to be connected") from None

    def __repr__(self) -> str:
        if self.connected:
            state = "connected" if self.namespaces else "neither accepted nor refused"
        else:
            state = f"refused: {self.refused}" if self.refused else "not connected"
        return f"{self.name} ({state})"

    # -- what it does ------------------------------------------------------------------------------

    async def call(
        self, event: str, data: Any = None, namespace: str | None = None, timeout: float = 60
    ) -> Any:
        """Emit and wait for the answer, as python-socketio's `call` does.

        Raises `socketio.exceptions.TimeoutError` after `timeout` seconds without one.
        """
        answered = asyncio.Event()
        answer: list[Any] = []

        def take(*args: Any) -> None:
            answer.extend(args)
            answered.set()

        numbers: list[int] = []
        take.numbers = numbers  # type: ignore[attr-defined]
        await self.emit(event, data, namespace=namespace, callback=take)
        try:
            async with asyncio.timeout(timeout):
                await answered.wait()
        except TimeoutError:
            number = numbers[0] if numbers else None
            self.recorder.add(
                "timeout",
                conn=self.name,
                to_server=True,
                packet="event",
                name=event,
                id=number,
                text=f"waited {timeout:g} s",
            )
            raise socketio.exceptions.TimeoutError(
                f"no answer to {event} within {timeout:g} s"
            ) from None
        if not answer:
            return None
        return answer[0] if len(answer) == 1 else tuple(answer)

    async def disconnect(self) -> None:
        """Say goodbye and close. A server that does not answer is not waited for."""
        leaving = asyncio.ensure_future(super().disconnect())
        ends = {leaving}
        if self.eio.current_transport == "polling" and self.eio.write_loop_task is not None:
            # python-engineio 4.15.1 then waits up to 30 s for its last poll to be answered; the
            # goodbye has been said when the last POST was.
            ends.add(self.eio.write_loop_task)
        await asyncio.wait(ends, timeout=2 * _GOODBYE, return_when=asyncio.FIRST_COMPLETED)
        if leaving.done():
            leaving.result()
        else:
            await asyncio.sleep(0.05)  # the rest of that POST's answer, which nobody reads
            leaving.cancel()
            await self._let_go()

    async def aclose(self) -> None:
        """As `disconnect`, whatever state the connection is in."""
        try:
            await self.disconnect()
        except Exception:
            await self._let_go()

    async def _let_go(self) -> None:
        """Drop the connection without a word, and free what it held.

        python-engineio 4.15.1 leaves its HTTP session open after a connection that failed, and
        behind a silent wire its polling loop waits for the ping timeout.
        """
        eio = self.eio
        tasks = [task for task in (eio.read_loop_task, eio.write_loop_task) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_GOODBYE)
        with contextlib.suppress(ValueError):
            engineio.base_client.connected_clients.remove(eio)
        await eio._reset()
        self.namespaces.clear()
        self.connected = False

    async def __aenter__(self) -> RawClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    # -- listening in on the library ---------------------------------------------------------------

    def _generate_ack_id(self, namespace: str, callback: Any) -> int:
        number: int = super()._generate_ack_id(namespace, callback)
        if hasattr(callback, "numbers"):
            callback.numbers.append(number)
        return number

    async def _send_packet(self, pkt: Any) -> None:
        seen = of_parts(str(pkt.packet_type), pkt.data, pkt.id)
        self._add("send", seen, to_server=True)
        await super()._send_packet(pkt)

    async def _handle_eio_message(self, data: str | bytes) -> None:
        seen = self._incoming.feed(data)
        if seen is not None:
            self._add("receive", seen, to_server=False)
            if seen.packet == "event":
                self._inbox.add(str(seen.name), seen.data)
        self._inbox.handler_started()
        try:
            await super()._handle_eio_message(data)
        except Exception as error:
            # The library lets it end the task that handles this packet, and asyncio prints it.
            self._book.note("error", "a handler of this client raised", error)
        finally:
            self._inbox.handler_finished()

    async def _handle_connect(self, namespace: str, data: Any) -> None:
        self.recorder.add("connected", conn=self.name)
        await super()._handle_connect(namespace, data)

    async def _handle_error(self, namespace: str, data: Any) -> None:
        if isinstance(data, dict):
            self.refused = Refused(str(data.get("message", "")), data.get("data"))
        else:
            self.refused = Refused(str(data))
        self.refused.client = self
        self.recorder.add(
            "refused", conn=self.name, text=self.refused.message, data=self.refused.data
        )
        await super()._handle_error(namespace, data)

    async def _handle_eio_disconnect(self, reason: Any) -> None:
        self.recorder.add("disconnected", conn=self.name, text=str(reason))
        await super()._handle_eio_disconnect(reason)
        self._inbox.wake()

    def _add(self, kind: Any, seen: Seen, *, to_server: bool) -> None:
        self.recorder.add(kind, conn=self.name, to_server=to_server, **seen.fields())


class _Connecting:
    """What `raw_client` returns: to be awaited, or used with `async with`."""

    def __init__(self, client: RawClient, target: _Target) -> None:
        self._client = client
        self._target = target

    async def _connect(self) -> RawClient:
        client, target = self._client, self._target
        try:
            await client.connect(
                target.url,
                headers={NAME_HEADER: quote(client.name), **target.headers},
                auth=target.auth,
                transports=list(target.transports),
                wait=target.wait,
                wait_timeout=target.timeout,
            )
        except BaseException as error:
            await client._let_go()
            if not isinstance(error, socketio.exceptions.ConnectionError):
                raise
            if client.refused is not None:
                raise client.refused from None
            raise
        return client

    def __await__(self) -> Generator[Any, None, RawClient]:
        return self._connect().__await__()

    async def __aenter__(self) -> RawClient:
        return await self._connect()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()


def raw_client(
    target: object,
    *,
    name: str = "client",
    auth: Any = None,
    transports: Sequence[str] = ("websocket",),
    wait: bool = True,
    timeout: float = 5.0,
    headers: dict[str, str] | None = None,
) -> _Connecting:
    """Connect a client that never reconnects by itself: `alice = await raw_client(server)`.

    `target` is a server, a wire or an address; `auth` is the handshake's data or a function that
    makes it; `wait=False` returns as soon as the transport is open, accepted or not; `timeout` is
    in seconds. Raises `Refused`, with the server's reason, or python-socketio's `ConnectionError`.
    """
    target = _Target(url_of(target), auth, transports, wait, timeout, headers or {})
    return _Connecting(RawClient(name), target)
