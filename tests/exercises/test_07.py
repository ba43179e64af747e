"""The checks of exercise 07 take right answers however they are written, and name what is wrong."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import count
from typing import Any

import pytest

from chatlab.lab.exercises import ex07
from chatlab.lab.exercises.ex07 import BUSY, MEMORY

# -- task 1 ----------------------------------------------------------------------------------------


def prices(one: Any, other: Any) -> Any:
    first, second = one.cpu / one.messages, other.cpu / other.messages
    delivery = (first - second) / (one.members - other.members)
    return first - (one.members - 1) * delivery, delivery


def by_cramers_rule(one: Any, other: Any) -> Any:
    """Another right answer: two equations, in whole seconds of each run."""
    rows = [
        (Fraction(run.messages), Fraction(run.messages * (run.members - 1)), Fraction(run.cpu))
        for run in (one, other)
    ]
    (a, b, x), (c, d, y) = rows
    return [float((x * d - y * b) / (a * d - b * c)), float((a * y - c * x) / (a * d - b * c))]


@pytest.mark.parametrize("answer", [prices, by_cramers_rule])
def test_two_prices_may_be_found_in_any_way(answer: Any) -> None:
    result = ex07.has_the_prices(answer)
    assert result.done, result.advice


def unfinished(one: Any, other: Any) -> Any: ...


def one_number(one: Any, other: Any) -> Any:
    return one.cpu / one.messages


def everything_is_messages(one: Any, other: Any) -> Any:
    return one.cpu / one.messages, 0.0


def everything_is_deliveries(one: Any, other: Any) -> Any:
    return 0.0, other.cpu / (other.messages * (other.members - 1) or 1)


def the_sender_is_served(one: Any, other: Any) -> Any:
    message, delivery = prices(one, other)
    return message - delivery, delivery


def the_other_way_round(one: Any, other: Any) -> Any:
    return tuple(reversed(prices(one, other)))


def in_microseconds(one: Any, other: Any) -> Any:
    return [price * 1e6 for price in prices(one, other)]


def forgets_that_the_runs_differ(one: Any, other: Any) -> Any:
    delivery = (one.cpu - other.cpu) / (one.members - other.members)
    return one.cpu - (one.members - 1) * delivery, delivery


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (unfinished, "`prices` gives nothing back yet"),
        (one_number, "give back two numbers"),
        (everything_is_messages, "puts the whole CPU time on the message"),
        (everything_is_deliveries, "puts the whole CPU time on the deliveries"),
        (the_sender_is_served, "the sender is a member, too, and is not served"),
        (the_other_way_round, "the wrong way round"),
        (in_microseconds, "these are microseconds"),
        (forgets_that_the_runs_differ, "two runs are two equations"),
    ],
)
def test_wrong_prices_are_told_what_they_left_out(answer: Any, advice: str) -> None:
    result = ex07.has_the_prices(answer)
    assert not result.done
    assert advice in result.advice


# -- task 2 ----------------------------------------------------------------------------------------


class Plan:
    """A right answer to task 2, in parts that wrong answers replace."""

    def __call__(self, load: Any, costs: Any) -> Any:
        self.load, self.costs = load, costs
        self.messages = load.users * load.rate
        servers = self.servers()
        return {"servers": servers, "redis": self.nodes(servers)}

    def servers(self) -> int:
        return max(1, self.whole(self.work() / self.busy()), self.whole(self.memory()))

    def work(self) -> float:
        each = self.costs.message + self.deliveries() * self.costs.delivery
        return float(self.messages * each)

    def deliveries(self) -> int:
        return int(self.load.members) - 1

    def memory(self) -> float:
        return float(self.load.users * self.costs.connection / MEMORY)

    def nodes(self, servers: int) -> int:
        if servers == 1:
            return 0
        return max(1, self.whole(self.messages * self.costs.redis / self.busy()))

    def busy(self) -> float:
        return BUSY

    def whole(self, value: float) -> int:
        return math.ceil(value)


def by_trying(load: Any, costs: Any) -> Any:
    """Another right answer: one more, until it is enough."""

    def fits(servers: int) -> bool:
        users = load.users / servers
        sent = users * load.rate
        cpu = sent * costs.message + sent * (load.members - 1) * costs.delivery
        return bool(cpu <= BUSY and users * costs.connection <= MEMORY)

    servers = next(n for n in count(1) if fits(n))
    nodes = next(n for n in count(1) if load.users * load.rate * costs.redis <= n * BUSY)
    return {"servers": servers, "redis": 0 if servers == 1 else nodes, "note": "tried"}


@pytest.mark.parametrize("answer", [Plan(), by_trying])
def test_a_plan_may_be_made_in_any_way(answer: Any) -> None:
    result = ex07.plans_for(answer)
    assert result.done, result.advice


def not_planned(load: Any, costs: Any) -> Any: ...


def a_number(load: Any, costs: Any) -> Any:
    return 20


class CountsConnections(Plan):
    def work(self) -> float:
        return 0.0


class ForgetsTheFanOut(Plan):
    def deliveries(self) -> int:
        return 0


class DeliversOnce(Plan):
    def deliveries(self) -> int:
        return 1


class ServesTheSender(Plan):
    def deliveries(self) -> int:
        return int(self.load.members)


class ForgetsTheMessage(Plan):
    def work(self) -> float:
        return float(self.messages * self.deliveries() * self.costs.delivery)


class ForgetsTheMemory(Plan):
    def memory(self) -> float:
        return 0.0


class WholeCores(Plan):
    def busy(self) -> float:
        return 1.0


class RoundsDown(Plan):
    def whole(self, value: float) -> int:
        return int(value)


class DoesNotRound(Plan):
    def whole(self, value: float) -> int:
        return value  # type: ignore[return-value]


class ForgetsRedis(Plan):
    def nodes(self, servers: int) -> int:
        return 0


class OneRedisForAll(Plan):
    def nodes(self, servers: int) -> int:
        return min(1, servers - 1)


class RedisForOne(Plan):
    def nodes(self, servers: int) -> int:
        return max(1, super().nodes(servers))


class RedisForEachReader(Plan):
    def nodes(self, servers: int) -> int:
        sent = self.messages * self.deliveries()
        return 0 if servers == 1 else max(1, math.ceil(sent * self.costs.redis / BUSY))


class KnowsThePrices(Plan):
    def __call__(self, load: Any, costs: Any) -> Any:
        return super().__call__(load, ex07.COSTS)


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (not_planned, "`plan` gives nothing back yet"),
        (a_number, "give back a dictionary with `servers` and `redis`"),
        (CountsConnections(), "this counts connections only"),
        (ForgetsTheFanOut(), "this forgets the fan-out"),
        (DeliversOnce(), "this forgets the fan-out"),
        (ServesTheSender(), "the sender is a member, too"),
        (ForgetsTheMessage(), "this counts the deliveries only"),
        (ForgetsTheMemory(), "this forgets the memory"),
        (WholeCores(), "this plans with whole cores"),
        (RoundsDown(), "this rounds down"),
        (DoesNotRound(), "round up"),
        (ForgetsRedis(), "this forgets Redis"),
        (OneRedisForAll(), "this forgets what Redis has to do"),
        (RedisForOne(), "it needs no Redis"),
        (RedisForEachReader(), "passes through Redis once"),
        (KnowsThePrices(), "take all prices from `costs`"),
    ],
)
def test_a_plan_that_leaves_something_out_is_told_what(answer: Any, advice: str) -> None:
    result = ex07.plans_for(answer)
    assert not result.done
    assert advice in result.advice


# -- task 3 ----------------------------------------------------------------------------------------


def judge(
    *,
    seconds: Any = lambda seconds: seconds,
    from_outside: bool = False,
    waiting: str = "left out",
    strangers: str = "their caller's",
    by_function: bool = False,
    answer: Any = lambda work, best: work / (work - best),
) -> Any:
    """A right answer to the stretch; each argument makes it a wrong one."""

    def bottleneck(profile: Any, parts: Any) -> Any:
        spent: dict[str, float] = {}
        for took, stack in profile:
            names = [name for name in stack if name in parts]
            if strangers == "nobody's" and stack[-1] not in parts:
                continue
            name = (names[0] if from_outside else names[-1]) if names else None
            part = (name if by_function else parts[name]) if name else None
            spent[part] = spent.get(part, 0.0) + seconds(took)
        if waiting != "a part":
            idle = spent.pop("select" if by_function else "waiting", 0.0)
        work = sum(spent.values()) + (idle if waiting == "work" else 0.0)
        spent.pop(None, None)
        best = max(spent, key=lambda part: spent[part])
        return parts.get(best, best), answer(work, spent[best])

    return bottleneck


def the_part_without_which_least_is_left(profile: Any, parts: Any) -> Any:
    """Another right answer: take each part away, and see what is left."""

    def part(stack: Any) -> Any:
        while stack and stack[-1] not in parts:
            stack = stack[:-1]
        return parts[stack[-1]] if stack else None

    work = [(took, part(stack)) for took, stack in profile if part(stack) != "waiting"]
    left = {
        each: sum(took for took, other in work if other != each)
        for _, each in work
        if each is not None
    }
    best = min(left, key=lambda each: left[each])
    return [best, sum(took for took, _ in work) / left[best]]


@pytest.mark.parametrize("answer", [judge(), the_part_without_which_least_is_left])
def test_a_bottleneck_may_be_found_in_any_way(answer: Any) -> None:
    result = ex07.finds_the_bottleneck(answer)
    assert result.done, result.advice


def not_looked(profile: Any, parts: Any) -> Any: ...


def only_a_name(profile: Any, parts: Any) -> Any:
    return judge()(profile, parts)[0]


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (not_looked, "`bottleneck` gives nothing back yet"),
        (only_a_name, "give back the part and a number"),
        (judge(seconds=lambda _: 1.0), "add up the seconds, not the looks"),
        (judge(from_outside=True), "the last function of a stack is the one at work"),
        (judge(waiting="a part"), "waiting costs nothing and is no part"),
        (judge(waiting="work"), "waiting costs nothing and is no part"),
        (judge(strangers="nobody's"), "works for whoever called it"),
        (judge(by_function=True), "add up what belongs to one part"),
        (judge(answer=lambda work, best: best / work), "that is its share of the time"),
        (judge(answer=lambda work, best: 100 * best / work), "that is its share of the time"),
    ],
)
def test_a_profile_that_is_misread_is_told_where(answer: Any, advice: str) -> None:
    result = ex07.finds_the_bottleneck(answer)
    assert not result.done
    assert advice in result.advice
