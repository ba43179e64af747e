"""A strict Engine.IO and Socket.IO layer under python-socketio; skip it on a first reading.

It goes in by python-socketio's own extension points and mends what the stock classes leave open:
who gets in, what is parsed, what one client can make the server hold, and how sockets close.
"""

from chatlab.transport.packet import MalformedPacket
from chatlab.transport.server import Handshake, StrictServer, encode_event

__all__ = ["Handshake", "MalformedPacket", "StrictServer", "encode_event"]
