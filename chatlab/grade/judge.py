"""Sentences that trials have in common: an ack that says yes, one that says no, a refusal."""

from __future__ import annotations

import re
from typing import Any, Final

from chatlab.grade.client import Client
from chatlab.grade.promise import Broken, Silent

__all__ = [
    "INTERNAL",
    "ISO",
    "is_overload",
    "is_yes",
    "must",
    "must_be_envelope",
    "must_refuse",
    "must_say_no",
    "must_say_yes",
]

INTERNAL: Final = "Internal server error"
ISO: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
"""How `Date.toISOString()` prints a moment."""


def must(condition: object, sentence: str) -> None:
    """Raise `Broken(sentence)` unless the condition holds."""
    if not condition:
        raise Broken(sentence)


def is_yes(ack: Any) -> bool:
    """Whether an ack says `ok: true`."""
    return isinstance(ack, dict) and ack.get("ok") is True


def is_overload(ack: Any) -> bool:
    """Whether an ack says that the server cannot do it now, as a busy machine may make it say."""
    return isinstance(ack, dict) and ack.get("ok") is False and ack.get("code") == "unavailable"


def must_say_yes(ack: Any, what: str) -> dict[str, Any]:
    """The ack, which must say `ok: true`. `what` names what was asked, as a subject."""
    must(isinstance(ack, dict), f"the ack of {what} is not an object")
    if is_overload(ack):
        raise Silent(f"{what} was answered with `unavailable`")
    must(ack.get("ok") is True, f"{what} should be answered with `ok: true`")
    found: dict[str, Any] = ack
    return found


def must_say_no(
    ack: Any,
    what: str,
    *,
    code: str | None = None,
    error: str | None = None,
    retry: bool | None = None,
    field: str | None = None,
) -> dict[str, Any]:
    """The ack, which must say `ok: false` with a sentence, and what else is given here."""
    must(isinstance(ack, dict), f"the ack of {what} is not an object")
    must(ack.get("ok") is False, f"{what} should be answered with `ok: false`")
    if code not in (None, "unavailable") and is_overload(ack):
        raise Silent(f"{what} was answered with `unavailable`")
    told = ack.get("error")
    must(isinstance(told, str) and told.strip(), f"the ack of {what} gives no `error` for a person")
    if error is not None:
        must(told == error, f"{what} should be answered with the error {error!r}, not {told!r}")
    for name, wanted in (("code", code), ("retry", retry), ("field", field)):
        if wanted is not None:
            given = ack.get(name)
            must(
                given == wanted and type(given) is type(wanted),
                f"{what} should be answered with {name} {wanted!r}, not {given!r}",
            )
    found: dict[str, Any] = ack
    return found


def must_be_envelope(ack: Any, what: str) -> None:
    """Raise `Broken` unless the ack is the contract's envelope: `ok`, and what goes with it."""
    must(isinstance(ack, dict), f"the ack of {what} is not an object")
    must(isinstance(ack.get("ok"), bool), f"the ack of {what} has no `ok`")
    if ack["ok"]:
        return
    must_say_no(ack, what)
    must(isinstance(ack.get("code"), str), f"the ack of {what} has no `code` for a program")
    must(isinstance(ack.get("retry"), bool), f"the ack of {what} does not say `retry`")


def must_refuse(client: Client, what: str, *, message: str | None = None) -> dict[str, Any]:
    """The refusal of a connection attempt, which must be a CONNECT_ERROR, with this message."""
    must(client.accepted is None, f"{what} should be refused, and was let in")
    must(client.refused, f"{what} should be refused by CONNECT_ERROR, not by closing")
    refusal = client.refusal if isinstance(client.refusal, dict) else {}
    told = refusal.get("message")
    if message is not None:
        must(told == message, f"{what} should be refused with {message!r}, not {told!r}")
    must(isinstance(told, str) and told, f"the refusal of {what} has no message")
    return refusal
