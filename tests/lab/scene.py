"""Made-up records: packets that pass, are swallowed or vanish, without any network."""

from __future__ import annotations

from typing import Any

from chatlab.lab.recorder import Recorder


class Scene:
    """Clients, at most one wire, a server; every packet goes at once from end to end."""

    def __init__(self, *clients: str, wired: tuple[str, ...] = ()) -> None:
        self.clients = {name: Recorder(name, "client") for name in clients}
        self.wire = Recorder("wire", "wire")
        self.server = Recorder("server", "server")
        self.wired = wired
        self.muted = False

    def __getattr__(self, name: str) -> Recorder:
        try:
            return self.clients[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def actors(self) -> list[Recorder]:
        return [*self.clients.values(), *([self.wire] if self.wired else []), self.server]

    def connect(self, client: str, auth: Any = None, refusal: Any = None) -> None:
        self.up(client, None, auth, packet="connect")
        if refusal is None:
            self.down(client, None, packet="connect")
            self.clients[client].add("connected", conn=client)
        else:
            self.down(client, None, refusal, packet="connect_error")
            self.clients[client].add("refused", conn=client, text=refusal["message"])

    def up(self, client: str, name: str | None, data: Any = None, **how: Any) -> None:
        self._carry(client, True, name, data, **how)

    def down(self, client: str, name: str | None, data: Any = None, **how: Any) -> None:
        self._carry(client, False, name, data, **how)

    def ack(self, client: str, number: int, data: Any = None, **how: Any) -> None:
        self._carry(client, False, None, data, id=number, packet="ack", **how)

    def timeout(self, client: str, name: str, number: int, seconds: float = 0.5) -> None:
        self.clients[client].add(
            "timeout", conn=client, name=name, id=number, text=f"waited {seconds:g} s"
        )

    def mute(self, **how: Any) -> None:
        self.muted = True
        self.wire.add("mute", **{"text": "silent", **how})

    def heal(self) -> None:
        self.muted = False
        self.wire.add("heal")

    def _carry(
        self,
        client: str,
        to_server: bool,
        name: str | None,
        data: Any,
        *,
        id: int | None = None,
        packet: str = "event",
        drop: bool = False,
        vanish: bool = False,
    ) -> None:
        fields: dict[str, Any] = {
            "conn": client,
            "to_server": to_server,
            "packet": packet,
            "name": name,
            "data": data,
            "id": id,
        }
        ends = [self.clients[client], self.server]
        source, target = ends if to_server else reversed(ends)
        source.add("send", **fields)
        if vanish:
            return
        if client in self.wired:
            if drop or self.muted:
                self.wire.add("drop", **fields)
                return
            self.wire.add("pass", **fields)
        target.add("receive", **fields)
