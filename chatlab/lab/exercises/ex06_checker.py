"""The check of exercise 06's stretch: a checker, which has to find what is wrong and no more.

Small histories, each with one thing in it that is easily judged wrongly. The lab's own checker is
`chatlab.lab.history`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from chatlab.lab.checks import check, expect, written

__all__ = ["finds_what_is_wrong"]

Event = tuple[str, str, str]
Found = set[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Case:
    """A history, what is wrong in it, and what to say when it is judged otherwise."""

    what: str
    history: list[Event]
    remedy: str
    lost: frozenset[tuple[str, str]] = frozenset()
    duplicated: frozenset[tuple[str, str]] = frozenset()


def _run(*lines: str) -> list[Event]:
    """`"alice sends m1"` as `("sends", "alice", "m1")`, `"bob joins"` as `("joins", "bob", "")`."""
    parts = [f"{line} ".split(" ") for line in lines]
    return [(what, who, key) for who, what, key, *_ in parts]


_ALL = ("alice joins", "bob joins", "carol joins")


def _one(who: str, key: str) -> frozenset[tuple[str, str]]:
    return frozenset({(key, who)})


CASES = [
    Case(
        "when alice's m1 was acked and she was not shown it herself",
        _run("alice joins", "alice sends m1", "alice acked m1"),
        "whoever sent it has the ack",
    ),
    Case(
        "when everybody saw everything",
        _run(*_ALL, "alice sends m1", "bob sees m1", "alice acked m1", "carol sees m1"),
        "nothing is wrong there; bob may well see it before alice's ack comes",
    ),
    Case(
        "when m1 was acked and carol never saw it",
        _run(*_ALL, "alice sends m1", "alice acked m1", "bob sees m1"),
        "that is what lost means: `lost` is {('m1', 'carol')}",
        lost=_one("carol", "m1"),
    ),
    Case(
        "when m1 was never acked, and nobody saw it",
        _run(
            *_ALL,
            "alice sends m1",
            "bob sends m2",
            "bob acked m2",
            "alice sees m2",
            "carol sees m2",
        ),
        "without an ack nobody was promised anything: not lost, unknown",
    ),
    Case(
        "when m1 was never acked, and only bob saw it",
        _run(*_ALL, "alice sends m1", "bob sees m1"),
        "without an ack it may have reached some and not others",
    ),
    Case(
        "when bob saw m1 twice",
        _run(
            *_ALL, "alice sends m1", "alice acked m1", "bob sees m1", "carol sees m1", "bob sees m1"
        ),
        "`duplicated` is {('m1', 'bob')}: count how often each one saw each message",
        duplicated=_one("bob", "m1"),
    ),
    Case(
        "when alice sent m1 three times until it was acked, and everybody saw it once",
        _run(
            *_ALL,
            "alice sends m1",
            "alice sends m1",
            "bob sees m1",
            "alice sends m1",
            "alice acked m1",
            "carol sees m1",
            "alice acked m1",
        ),
        "sending again is no fault, and neither is a second ack: what counts is who saw what",
    ),
    Case(
        "when m1 was sent twice, never acked, and carol saw both",
        _run(*_ALL, "alice sends m1", "alice sends m1", "carol sees m1", "carol sees m1"),
        "`duplicated` is {('m1', 'carol')}: seeing a message twice is wrong with or without an ack",
        duplicated=_one("carol", "m1"),
    ),
    Case(
        "when dave joined after m1 had been acked, and never saw it",
        _run(
            *_ALL,
            "alice sends m1",
            "alice acked m1",
            "bob sees m1",
            "carol sees m1",
            "dave joins",
            "bob sends m2",
            "bob acked m2",
            "alice sees m2",
            "carol sees m2",
            "dave sees m2",
        ),
        "who came later need not see what was said before: look at who had joined when it was sent",
    ),
    Case(
        "when carol left for good before m1 came to her",
        _run(*_ALL, "alice sends m1", "alice acked m1", "bob sees m1", "carol leaves"),
        "who is not in the room at the end may have gone before it came",
    ),
    Case(
        "when bob left for good, and m1 was sent and acked after that",
        _run(*_ALL, "bob leaves", "alice sends m1", "alice acked m1", "carol sees m1"),
        "who has left is not owed anything",
    ),
    Case(
        "when bob was cut off while m1 was sent, came back, and saw it late",
        _run(
            *_ALL,
            "bob leaves",
            "alice sends m1",
            "alice acked m1",
            "carol sees m1",
            "bob joins",
            "bob sees m1",
        ),
        "late is not lost",
    ),
    Case(
        "when bob was cut off while m1 was sent, came back, and never saw it",
        _run(
            *_ALL,
            "bob leaves",
            "alice sends m1",
            "alice acked m1",
            "carol sees m1",
            "bob joins",
        ),
        "who had joined before and is back at the end has to have it: `lost` is {('m1', 'bob')}",
        lost=_one("bob", "m1"),
    ),
    Case(
        "when bob lacks m1 and carol saw m2 twice",
        _run(
            *_ALL,
            "alice sends m1",
            "bob sends m2",
            "bob acked m2",
            "alice acked m1",
            "carol sees m2",
            "carol sees m1",
            "alice sees m2",
            "carol sees m2",
        ),
        "`lost` is {('m1', 'bob')} and `duplicated` is {('m2', 'carol')}",
        lost=_one("bob", "m1"),
        duplicated=_one("carol", "m2"),
    ),
]


@check(
    "what is lost and what is duplicated is found, and nothing else",
    task=3,
    lesson="06",
    stretch=True,
)
def finds_what_is_wrong(find_faults: Callable[[list[Event]], Any]) -> None:
    """`find_faults(history)` gives `{"lost": …, "duplicated": …}`."""
    for case in CASES:
        found = written(find_faults(list(case.history)), "find_faults")
        lost, duplicated = _taken(found, "lost"), _taken(found, "duplicated")
        wrong = lost != case.lost or duplicated != case.duplicated
        expect(
            not wrong,
            f"{case.what}, your checker said `lost` {_shown(lost)} and `duplicated` "
            f"{_shown(duplicated)} — {case.remedy}",
        )


def _taken(found: Any, name: str) -> Found:
    expect(
        isinstance(found, dict) and name in found,
        f"`find_faults` gave back `{found!r}` — give back "
        "a dictionary with `lost` and `duplicated`",
    )
    pairs: list[Any] = list(found[name]) if isinstance(found[name], Iterable) else [None]
    expect(
        all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs),
        f"`{name}` is `{found[name]!r}` — make it a set of pairs (key, name)",
    )
    return {(str(key), str(who)) for key, who in pairs}


def _shown(found: Found) -> str:
    return "{" + ", ".join(map(str, sorted(found))) + "}"
