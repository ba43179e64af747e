"""The chat server: authenticated, acknowledged, validated, rate-limited and ordered."""

from chatlab.server.app import ChatServer, create_app

__all__ = ["ChatServer", "create_app"]
