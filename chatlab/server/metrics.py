"""What the server counts, and how Prometheus reads it.

Counting happens for every event and is an addition or two to plain numbers; they get their names,
their labels and their form when somebody asks.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from chatlab.protocol import CLIENT_EVENTS

__all__ = ["Metrics"]

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
_UNKNOWN: Final = "unknown"


class _Answers:
    """The answers to events of one name: how many with each code, and how long they took."""

    __slots__ = ("failed", "seconds", "took")

    def __init__(self) -> None:
        self.failed: Counter[str] = Counter()  # by their codes; the others are `ok`
        self.took = [0] * (len(_BUCKETS) + 1)  # by the first bucket that holds it
        self.seconds = 0.0

    def codes(self) -> list[tuple[str, int]]:
        """How many there were with each code."""
        ok = sum(self.took) - self.failed.total()
        return [*([("ok", ok)] if ok else ()), *self.failed.items()]

    def histogram(self) -> list[tuple[str, float]]:
        """Every bucket holds what the smaller ones do."""
        bounds = [*(str(bound) for bound in _BUCKETS), "+Inf"]
        return list(zip(bounds, accumulate(self.took), strict=True))


class Metrics:
    """One server's numbers; their names begin with `chatlab_`.

    Labels take only codes and event names of the contract, never what a client made up: each
    label value is kept for ever.
    """

    def __init__(
        self,
        *,
        sockets: Callable[[], int],
        fed: Callable[[], int],
        rooms: Callable[[], int],
        subscriptions: Callable[[], int],
        limits_locally: Callable[[], bool],
    ) -> None:
        self._fed = fed
        self.refusals: Counter[str] = Counter()
        self._answers = {name: _Answers() for name in (*CLIENT_EVENTS, _UNKNOWN)}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        for name, text, value in (
            ("sockets", "Sockets accepted", sockets),
            ("rooms", "Rooms with a member here", rooms),
            ("subscriptions", "Channels that are heard in Redis", subscriptions),
            (
                "limiter_local",
                "1 while Redis is away and users are limited on this server by itself",
                limits_locally,
            ),
            ("tasks", "Tasks of the event loop", lambda: len(asyncio.all_tasks())),
        ):
            gauge = Gauge(f"chatlab_{name}", text, registry=self._registry)
            gauge.set_function(value)

    def answered(self, event: str, code: str, seconds: float) -> None:
        """Count an event that was answered with `code`, so many seconds after its arrival."""
        answers = self._answers.get(event) or self._answers[_UNKNOWN]
        if code != "ok":
            answers.failed[code] += 1
        answers.took[bisect_left(_BUCKETS, seconds) if seconds > _BUCKETS[0] else 0] += 1
        answers.seconds += seconds

    def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        events = CounterMetricFamily("chatlab_events", "Events answered", labels=["event", "code"])
        seconds = HistogramMetricFamily(
            "chatlab_ack_seconds", "From an event's arrival to its ack", labels=["event"]
        )
        for name, answers in self._answers.items():
            for code, count in answers.codes():
                events.add_metric([name, code], count)
            if any(answers.took):
                seconds.add_metric([name], answers.histogram(), answers.seconds)
        refusals = CounterMetricFamily("chatlab_refusals", "Connections refused", labels=["code"])
        for code, count in self.refusals.items():
            refusals.add_metric([code], count)
        fed = CounterMetricFamily(
            "chatlab_feed_messages", "Stored messages that the feed brought", self._fed()
        )
        yield from (events, seconds, refusals, fed)
