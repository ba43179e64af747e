"""What only the workshop needs: servers in the background, faults, drawings and checks."""

from __future__ import annotations

from chatlab.lab.background import Server, background
from chatlab.lab.clients import RawClient, Refused, raw_client
from chatlab.lab.inbox import Received
from chatlab.lab.proxy import Proxy
from chatlab.lab.recorder import Entry, Recorder

__all__ = [
    "Entry",
    "Proxy",
    "RawClient",
    "Received",
    "Recorder",
    "Refused",
    "Server",
    "background",
    "raw_client",
]
