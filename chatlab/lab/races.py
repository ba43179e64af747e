"""What lesson 04 measures and draws: how long somebody waits, and what rate limiters let through.

The limiters themselves are written in the lesson; all that is asked of one is `take(now)`, which
gives the seconds until it would let the event through, and 0 when it did.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from chatlab.lab.clients import RawClient
from chatlab.lab.plots import COLOURS, INK, chart

__all__ = [
    "Limiter",
    "attempts_chart",
    "busiest",
    "flood",
    "probe",
    "race",
    "race_chart",
    "waits_chart",
]

PATIENCE = 5.0  # seconds until an answer that has not come counts as none

Decision = tuple[float, bool]
Wait = tuple[float, float | None]


class Limiter(Protocol):
    """Anything that decides on one event at a time."""

    def take(self, now: float) -> float:
        """0 when the event is let through, else the seconds until one would be."""


def race(limiter: Limiter, times: Iterable[float]) -> list[Decision]:
    """Let events arrive at `times` (seconds, ascending); each with whether it was let through."""
    return [(now, not limiter.take(now)) for now in times]


def busiest(decisions: Iterable[Decision], span: float) -> int:
    """The most events that were let through within any `span` seconds, without the last instant."""
    through = [now for now, admitted in decisions if admitted]
    most = first = 0
    for last, now in enumerate(through):
        # A billionth of slack: 2.1 - 1.9 is not quite 0.2 in floating point.
        while now - through[first] >= span - 1e-9:
            first += 1
        most = max(most, last - first + 1)
    return most


async def probe(
    client: RawClient, event: str, payload: Any, *, seconds: float, every: float
) -> list[Wait]:
    """Call `event` every so many seconds, not waiting for answers, and note how long each took.

    Returns (seconds since the start, milliseconds); None for an answer that was no `ok`, or that
    did not come within 5 s.
    """
    start = time.perf_counter()
    waits: list[Wait] = []

    async def ask(sent: float) -> None:
        try:
            answer = await client.call(event, payload, timeout=PATIENCE)
        except Exception:
            answer = None
        ok = isinstance(answer, dict) and bool(answer.get("ok"))
        waits.append((sent, (time.perf_counter() - start - sent) * 1000 if ok else None))

    asking = []
    for number in range(round(seconds / every)):
        await asyncio.sleep(max(0.0, start + number * every - time.perf_counter()))
        asking.append(asyncio.ensure_future(ask(time.perf_counter() - start)))
    await asyncio.gather(*asking)
    return sorted(waits)


def flood(client: RawClient, event: str, payload: Any, count: int) -> None:
    """Write `count` events to the wire at once, with no ack and no pause; returns at once.

    For a client on a websocket. The bytes are made here and handed to the operating system, so
    that the flood costs the flooded server its time, and this process next to none.
    """
    text = f"42{json.dumps([event, payload], separators=(',', ':'))}".encode()
    if len(text) > 125:
        raise ValueError(f"an event of {len(text)} bytes is too long: 125 at most")
    # A client's frame is masked (RFC 6455, 5.3); a mask of zeros leaves the text as it is.
    frame = bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text
    # aiohttp 3.14 has no public way to write more than one frame.
    client.eio.ws._writer.transport.write(frame * count)


def waits_chart(title: str, runs: Mapping[str, Sequence[Wait]], *, since: float) -> Any:
    """Draw what `probe` gave, one series a run; the flood began `since` seconds after the start."""
    axes = chart(title, x="sent at (s)", y="answered after (ms)")
    highest = max((ms for waits in runs.values() for _, ms in waits if ms is not None), default=1.0)
    top = max(1000.0, 4 * highest)
    axes.set(yscale="log", ylim=(0.5, top))
    for name, waits in runs.items():
        (line,) = axes.plot(
            [at for at, ms in waits if ms is not None],
            [ms for _, ms in waits if ms is not None],
            linestyle="",
            label=name,
        )
        refused = [at for at, ms in waits if ms is None]
        if refused:
            axes.plot(
                refused,
                [top / 1.6] * len(refused),
                linestyle="",
                marker="x",
                color=line.get_color(),
                label=f"{name}: no ok",
            )
    axes.axvline(since, color=INK, linestyle=(0, (4, 3)), linewidth=1)
    axes.annotate(
        " the flood begins", (since, 0.02), xycoords=("data", "axes fraction"), fontsize=9
    )
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)
    return axes


def attempts_chart(
    title: str, rows: Mapping[str, Sequence[Decision]], *, marks: Sequence[float] = ()
) -> Any:
    """Draw each event of what `race` gave as a tick, one row a limiter.

    `marks` are times that get a dashed line; the first and the last are the ends of the axis.
    """
    axes = chart(title, x="time (s)", height=1.1 + 0.75 * len(rows))
    looks = (
        (True, "let through", COLOURS["blue"], "|", 17.0, 1.3),
        (False, "refused", COLOURS["vermilion"], "x", 4.5, 1.2),
    )
    for row, decisions in enumerate(rows.values()):
        for wanted, label, colour, marker, size, width in looks:
            times = [now for now, admitted in decisions if admitted is wanted]
            # The refused stand a little lower, so that neither hides the other.
            axes.plot(
                times,
                [-row - (0.0 if wanted else 0.3)] * len(times),
                linestyle="",
                marker=marker,
                markersize=size,
                markeredgewidth=width,
                color=colour,
                label=label if row == 0 else None,
            )
    for mark in marks:
        axes.axvline(mark, color=INK, linestyle=(0, (4, 3)), linewidth=1)
    axes.set(xlim=(min(marks, default=None), max(marks, default=None)))
    axes.set(ylim=(-len(rows) + 0.45, 0.5))
    axes.set_yticks([-row for row in range(len(rows))], rows)
    axes.grid(visible=False, axis="y")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)
    return axes


def race_chart(title: str, rows: Mapping[str, Sequence[Decision]], *, rate: float) -> Any:
    """Draw how many events each limiter had let through by when, over the line of `rate`/s."""
    axes = chart(title, x="time (s)", y="let through so far", height=4.0)
    end = max(now for decisions in rows.values() for now, _ in decisions)
    for number, (name, decisions) in enumerate(rows.items()):
        through = [now for now, admitted in decisions if admitted]
        axes.plot(
            [0.0, *through, end],
            [*range(len(through) + 1), len(through)],
            drawstyle="steps-post",
            label=name,
            # Where two limiters agree, the markers of both can be seen.
            markevery=(3 * number, 5 * len(rows)),
        )
    axes.plot(
        [0.0, end],
        [0.0, rate * end],
        color=INK,
        linestyle="-",
        linewidth=1,
        marker="",
        label=f"{rate:g} a second",
    )
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return axes
