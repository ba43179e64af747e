"""A name server of one name, as a container engine has one for the replicas of a service."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Self

A, IN, ANSWER = 1, 1, 0x8580
HEADER = struct.Struct("!6H")


class Names:
    """Answers every question for IPv4 with `addresses`, at once and to be forgotten at once."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, name="names", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # An empty packet is what the thread ends at.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            packet, peer = self._socket.recvfrom(4096)
            if not packet:
                return
            self.asked += 1
            self._socket.sendto(self._answer(packet), peer)

    def _answer(self, packet: bytes) -> bytes:
        number = HEADER.unpack_from(packet)[0]
        end = HEADER.size
        while packet[end]:
            end += packet[end] + 1
        (kind,) = struct.unpack_from("!H", packet, end + 1)
        question = packet[HEADER.size : end + 5]
        known = list(self.addresses) if kind == A else []
        # 0xC00C: the name that was asked for; no second of keeping.
        records = b"".join(
            struct.pack("!3HIH", 0xC00C, A, IN, 0, 4) + socket.inet_aton(each) for each in known
        )
        return HEADER.pack(number, ANSWER, 1, len(known), 0, 0) + question + records
