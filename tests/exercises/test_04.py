"""The checks of exercise 04 take right answers however they are written, and name what is wrong."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from chatlab import doctor
from chatlab.lab.exercises import ex04

# -- task 1 ----------------------------------------------------------------------------------------


class Solution:
    """Each method may be made wrong by a subclass."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.rate, self.burst = rate, burst
        self.tokens, self.at = self.first(), now

    def first(self) -> float:
        return self.burst

    def passed(self, now: float) -> float:
        return max(0, now - self.at)

    def fitting(self, tokens: float) -> float:
        return min(self.burst, tokens)

    def seen(self, now: float) -> float:
        return now

    def take(self, now: float) -> Any:
        self.tokens = self.fitting(self.tokens + self.passed(now) * self.rate)
        self.at = self.seen(now)
        if self.tokens < 1:
            return (1 - self.tokens) / self.rate
        self.tokens -= 1
        return 0


class FullAt:
    """Another right answer: GCRA, which keeps one time."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.step, self.burst = 1 / rate, burst
        self.missing, self.at = 0.0, now

    def take(self, now: float) -> float:
        self.missing = max(0.0, self.missing - max(0.0, now - self.at))
        self.at = now
        room = (self.burst - 1) * self.step - self.missing
        if room < -1e-9:
            return -room
        self.missing += self.step
        return 0.0


@pytest.mark.parametrize("answer", [Solution, FullAt])
def test_a_bucket_may_be_built_in_any_way(answer: Any) -> None:
    result = ex04.the_bucket_fills_and_never_overflows(answer)
    assert result.done, result.advice


class Unfinished(Solution):
    def take(self, now: float) -> Any: ...


class StartsEmpty(Solution):
    def first(self) -> float:
        return 0


class NeverRefuses(Solution):
    def take(self, now: float) -> Any:
        return 0


class OneMore(Solution):
    """Lets an event pass while there is any part of a token."""

    def take(self, now: float) -> Any:
        self.tokens = self.fitting(self.tokens + self.passed(now) * self.rate)
        self.at = now
        if self.tokens < 0:
            return -self.tokens / self.rate
        self.tokens -= 1
        return 0


class TrueOrFalse(Solution):
    def take(self, now: float) -> Any:
        return super().take(now) == 0


class WholeSeconds(Solution):
    def passed(self, now: float) -> float:
        return max(0, int(now) - int(self.at))


class WholeTokens(Solution):
    """Forgets the part of a token that has flowed in."""

    def take(self, now: float) -> Any:
        wait = super().take(now)
        self.tokens = int(self.tokens + 1e-3)
        return wait


class ClockOfItsOwn(Solution):
    def take(self, now: float) -> Any:
        return super().take(time.monotonic())


class NeverFlows(Solution):
    def passed(self, now: float) -> float:
        return 0


class RefusalsCost(Solution):
    def take(self, now: float) -> Any:
        self.tokens = self.fitting(self.tokens + self.passed(now) * self.rate) - 1
        self.at = now
        return 0 if self.tokens >= 0 else -self.tokens / self.rate


class Unbounded(Solution):
    def fitting(self, tokens: float) -> float:
        return tokens


class FillsAtOnce(Solution):
    """As a window does: after a while everything is there again."""

    def passed(self, now: float) -> float:
        return self.burst / self.rate if now - self.at >= 0.1 else 0


class RemembersNothing(Solution):
    """Counts the time since the beginning at every look."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        super().__init__(rate, burst, now)
        self.began = now

    def seen(self, now: float) -> float:
        return self.began


class RemembersOnlySuccess(Solution):
    def take(self, now: float) -> Any:
        before = self.at
        wait = super().take(now)
        if wait:
            self.at = before
        return wait


class TakesTimeBack(Solution):
    def passed(self, now: float) -> float:
        return now - self.at


class AnyStepFills(Solution):
    def passed(self, now: float) -> float:
        return abs(now - self.at)


class WaitsForTheOldTime(Solution):
    def seen(self, now: float) -> float:
        return max(self.at, now)


class AlwaysASecond(Solution):
    def take(self, now: float) -> Any:
        return super().take(now) and 1


class AWholeToken(Solution):
    def take(self, now: float) -> Any:
        return super().take(now) and 1 / self.rate


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (Unfinished, "`take` gives nothing back yet"),
        (StartsEmpty, "it starts full"),
        (NeverRefuses, "each event takes a token"),
        (OneMore, "at least one whole token"),
        (TrueOrFalse, "`take` gave `True`"),
        (WholeSeconds, "count parts of a second too"),
        (WholeTokens, "keep the parts of a token"),
        (ClockOfItsOwn, "the time is `now`, no clock"),
        (NeverFlows, "no token came in more than a second"),
        (RefusalsCost, "an event that is refused takes no token"),
        (Unbounded, "no more than `burst` tokens fit"),
        (FillsAtOnce, "5 events got through, at a rate of 10"),
        (RemembersNothing, "the time since the last look"),
        (RemembersOnlySuccess, "remember `now` at each look"),
        (TakesTimeBack, "time that is negative takes no tokens away"),
        (AnyStepFills, "a step back brings no tokens"),
        (WaitsForTheOldTime, "count on from the new time"),
        (AlwaysASecond, "said to wait 1 s"),
        (AWholeToken, "only the part that is missing"),
    ],
)
def test_a_bucket_with_a_hole_is_told_where(answer: Any, advice: str) -> None:
    result = ex04.the_bucket_fills_and_never_overflows(answer)
    assert not result.done
    assert advice in result.advice


def test_buckets_that_share_their_tokens_are_told_so() -> None:
    made: list[Solution] = []

    def make(rate: float, burst: int, now: float) -> Any:
        # The last probe makes two of the same kind in a row, without a take between.
        bucket = Solution(rate, burst, now)
        if made and type(made[-1]) is Solution and made[-1].tokens == burst == made[-1].burst:
            return made[-1]
        made.append(bucket)
        return bucket

    result = ex04.the_bucket_fills_and_never_overflows(make)
    assert not result.done
    assert "two buckets share their tokens" in result.advice


# -- task 2 ----------------------------------------------------------------------------------------


class PerUser:
    def __init__(self, new_bucket: Callable[[float], Any]) -> None:
        self.new_bucket, self.buckets = new_bucket, {}

    def key(self, sid: str, user: str) -> str:
        return user

    def take(self, sid: str, user: str, now: float) -> Any:
        key = self.key(sid, user)
        if key not in self.buckets:
            self.buckets[key] = self.new_bucket(now)
        return self.buckets[key].take(now)

    def left(self, sid: str, user: str, now: float) -> None:
        self.buckets = {key: one for key, one in self.buckets.items() if not one.full(now)}


class SweepsWhenAsked:
    """Another right answer: it looks for full buckets when somebody comes."""

    def __init__(self, new_bucket: Callable[[float], Any]) -> None:
        self.new_bucket = new_bucket
        self.kept: list[tuple[str, Any]] = []

    def take(self, sid: str, user: str, now: float) -> Any:
        self.kept = [(name, one) for name, one in self.kept if not one.full(now)]
        mine = dict(self.kept).get(user)
        if mine is None:
            mine = self.new_bucket(now)
            self.kept.append((user, mine))
        return mine.take(now)

    def left(self, sid: str, user: str, now: float) -> None:
        pass


@pytest.mark.parametrize("answer", [PerUser, SweepsWhenAsked])
async def test_limits_may_be_kept_in_any_way(answer: Any) -> None:
    result = await ex04.nobody_gets_around_it(answer)
    assert result.done, result.advice


class NotYet(PerUser):
    def take(self, sid: str, user: str, now: float) -> Any: ...


class PerSocket(PerUser):
    def key(self, sid: str, user: str) -> str:
        return sid


class OneForAll(PerUser):
    def key(self, sid: str, user: str) -> str:
        return "everybody"


class ANewOneEachTime(PerUser):
    def take(self, sid: str, user: str, now: float) -> Any:
        return self.new_bucket(now).take(now)


class ForgetsWhoLeaves(PerUser):
    def left(self, sid: str, user: str, now: float) -> None:
        self.buckets.pop(user, None)


class ForgetsWithTheLastSocket(PerUser):
    def __init__(self, new_bucket: Callable[[float], Any]) -> None:
        super().__init__(new_bucket)
        self.sids: dict[str, set[str]] = {}

    def take(self, sid: str, user: str, now: float) -> Any:
        self.sids.setdefault(user, set()).add(sid)
        return super().take(sid, user, now)

    def left(self, sid: str, user: str, now: float) -> None:
        self.sids.get(user, set()).discard(sid)
        if not self.sids.get(user):
            self.buckets.pop(user, None)


class ForgetsAllWhenOneLeaves(PerUser):
    def left(self, sid: str, user: str, now: float) -> None:
        if len(self.buckets) > 1 or sid not in self.first:
            self.buckets.clear()

    @property
    def first(self) -> set[str]:
        return self.__dict__.setdefault("taken", set())

    def take(self, sid: str, user: str, now: float) -> Any:
        self.first.add(sid)
        return super().take(sid, user, now)


class ForgetsNobody(PerUser):
    def left(self, sid: str, user: str, now: float) -> None:
        pass


class LooksOnlyAtWhoLeaves(PerUser):
    def left(self, sid: str, user: str, now: float) -> None:
        if user in self.buckets and self.buckets[user].full(now):
            del self.buckets[user]


class StopsTheClock(PerUser):
    def take(self, sid: str, user: str, now: float) -> Any:
        return super().take(sid, user, 1000.0)


class ChangesWhatItGoesThrough(PerUser):
    def left(self, sid: str, user: str, now: float) -> None:
        for name, one in self.buckets.items():
            if one.full(now):
                del self.buckets[name]


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (NotYet, "`take` gives nothing back yet"),
        (ANewOneEachTime, "ask the same bucket each time"),
        (OneForAll, "each user has their own"),
        (StopsTheClock, "hand it the `now`"),
        (PerSocket, "not under the sid"),
        (ForgetsWhoLeaves, "mallory left and came back, and 10 events"),
        (ForgetsWithTheLastSocket, "keep the bucket until it is full"),
        (ForgetsAllWhenOneLeaves, "closed one of two sockets"),
        (ForgetsNobody, "13 buckets are still kept"),
        (LooksOnlyAtWhoLeaves, "13 buckets are still kept"),
        (ChangesWhatItGoesThrough, "dictionary changed size"),
    ],
)
async def test_limits_that_can_be_evaded_are_told_how(answer: Any, advice: str) -> None:
    result = await ex04.nobody_gets_around_it(answer)
    assert not result.done
    assert advice in result.advice


# -- task 3 ----------------------------------------------------------------------------------------

needs_valkey = pytest.mark.skipif(
    not doctor.has("valkey") and os.environ.get("CI", "") not in {"1", "true"},
    reason="this machine has no Valkey",
)

BUCKET = """
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(kept[1] or burst), tonumber(kept[2] or now)
tokens = math.min(burst, tokens + math.max(0, now - at) * rate)
local passes = tokens >= 1
if passes then tokens = tokens - 1 end
redis.call('HSET', KEYS[1], 'tokens', tokens, 'at', now)
redis.call('EXPIRE', KEYS[1], math.ceil((burst - tokens) / rate) + 1)
return passes
"""


def script(old: str = "", new: str = "", key: str = "bucket:{}") -> Any:
    """The solution; what is replaced can make it a wrong one."""
    text = BUCKET.replace(old, new)
    assert not old or text != BUCKET

    async def take(server: Any, user: str, rate: float, burst: int) -> Any:
        return bool(await server.eval(text, 1, key.format(user), rate, burst))

    return take


async def under_a_lock(server: Any, user: str, rate: float, burst: int) -> bool:
    """Another right answer, slower: one server at a time, and one command that writes."""
    async with server.lock(f"lock:{user}", timeout=5, sleep=0.002):
        seconds, micros = await server.time()
        now = seconds + micros / 1e6
        kept = (await server.get(f"bucket:{user}") or f"{burst} {now}".encode()).split()
        tokens = min(burst, float(kept[0]) + max(0.0, now - float(kept[1])) * rate)
        passes = tokens >= 1
        tokens -= passes
        wait = int((burst - tokens) / rate) + 2
        await server.set(f"bucket:{user}", f"{tokens} {now}", ex=wait)
        return passes


@needs_valkey
@pytest.mark.parametrize("answer", [script(), under_a_lock], ids=["script", "lock"])
async def test_a_shared_bucket_may_be_built_in_any_way(answer: Any) -> None:
    result = await ex04.one_bucket_for_all_servers(answer)
    assert result.done, result.advice


async def get_and_set(server: Any, user: str, rate: float, burst: int) -> bool:
    count = int(await server.get(user) or 0)
    if count >= burst:
        return False
    await server.set(user, count + 1, px=int(burst / rate * 1000))
    return True


async def count_then_expire(server: Any, user: str, rate: float, burst: int) -> bool:
    """Right, but for a death between the two commands."""
    passes = await script(
        "redis.call('EXPIRE', KEYS[1], math.ceil((burst - tokens) / rate) + 1)", ""
    )(server, user, rate, burst)
    await server.expire(f"bucket:{user}", int(burst / rate) + 2)
    return bool(passes)


async def fixed_window(server: Any, user: str, rate: float, burst: int) -> bool:
    count = "local n = redis.call('INCR', KEYS[1]) if n == 1 then "
    count += "redis.call('PEXPIRE', KEYS[1], ARGV[1]) end return n"
    return await server.eval(count, 1, user, int(burst / rate * 1000)) <= burst


async def never_refills(server: Any, user: str, rate: float, burst: int) -> bool:
    async with server.pipeline(transaction=True) as pipe:
        await pipe.incr(user)
        await pipe.expire(user, 1000)
        return (await pipe.execute())[0] <= burst


async def in_this_process(server: Any, user: str, rate: float, burst: int) -> bool:
    buckets: dict[str, Solution] = in_this_process.__dict__.setdefault("buckets", {})
    bucket = buckets.setdefault(user, Solution(rate, burst, time.monotonic()))
    return bucket.take(time.monotonic()) == 0


async def unfinished(server: Any, user: str, rate: float, burst: int) -> Any: ...


def not_async(server: Any, user: str, rate: float, burst: int) -> Any: ...


@needs_valkey
@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (unfinished, "`take` gives nothing back yet"),
        (not_async, "begin it with `async def`"),
        (script("tokens >= 1", "true"), "of 8 events at one moment 8 got through"),
        (script(key="bucket"), "the user belongs into the key"),
        (get_and_set, "do both in one script"),
        (script("+ time[2] / 1000000", "+ 0"), "parts of a second"),
        (never_refills, "no token after half a second"),
        (
            script(
                "math.max(0, now - at) * rate", "(now - at > 0.005 and rate > 1 and burst or 0)"
            ),
            # 3, or fewer where the bucket filled while it was emptied, on a slow machine.
            "more were there, at a rate of 5",
        ),
        (fixed_window, "no token after half a second"),
        (in_this_process, "nothing is kept in Redis"),
        (
            script("redis.call('EXPIRE', KEYS[1], math.ceil((burst - tokens) / rate) + 1)", ""),
            "stays in Redis for ever",
        ),
        (script("math.ceil((burst - tokens) / rate) + 1", "1"), "has a full one too early"),
        (count_then_expire, "a server died between two commands"),
    ],
)
async def test_a_shared_bucket_with_a_hole_is_told_where(answer: Any, advice: str) -> None:
    result = await ex04.one_bucket_for_all_servers(answer)
    assert not result.done
    assert advice in result.advice
