"""Exercise checks answer with one line, whatever the learner's code does."""

import asyncio
import time

import pytest

from chatlab.lab.checks import advice, check, expect, written


@check("a number comes back", task=1, lesson="01", limit=0.3, hints=("Think.", "Return 1."))
async def gives_one(function):
    value = written(await function(), "function")
    expect(value == 1, "another number came back — return 1")


@check("a number comes back at once", task=2, lesson="01", limit=0.3)
def gives_one_now(function):
    expect(written(function(), "function") == 1, "another number came back — return 1")


async def one():
    return 1


async def two():
    return 2


async def unfinished(): ...


async def not_implemented():
    raise NotImplementedError


async def crashes():
    auth = {}
    return auth["token"]


async def test_a_right_answer_shows_the_goal_behind_a_tick():
    result = await gives_one(one)
    assert repr(result) == "✓ a number comes back"
    assert result.done
    assert result
    assert result.advice is None


async def test_a_wrong_answer_shows_the_advice_behind_a_circle():
    result = await gives_one(two)
    assert repr(result) == "○ another number came back — return 1"
    assert not result


async def test_an_unfinished_stub_is_named():
    assert repr(await gives_one(unfinished)) == (
        "○ `function` gives nothing back yet — replace the `...`"
    )
    assert repr(gives_one_now(lambda: ...)) == (
        "○ `function` gives nothing back yet — replace the `...`"
    )


async def test_not_implemented_is_not_a_crash():
    assert "not written yet" in repr(await gives_one(not_implemented))


async def test_a_crash_names_the_learners_line():
    assert repr(await gives_one(crashes)) == (
        "○ your code raised `KeyError: 'token'`, line 3 of `crashes`: `return auth[\"token\"]`"
    )


async def test_the_line_named_is_the_learners_own_not_a_librarys():
    async def parses():
        import json

        return json.loads("{")

    assert 'line 4 of `parses`: `return json.loads("{")`' in repr(await gives_one(parses))


async def test_addresses_ports_and_tokens_stay_out_of_the_advice():
    async def talks():
        raise ValueError("object at 0x7f33aa001122 on 127.0.0.1:54321 with eyJhbGci.eyJzdWIi.c2ln")

    text = repr(await gives_one(talks))
    assert "0x…" in text
    assert "127.0.0.1:…" in text
    assert "eyJhbGci" not in text.partition(", line")[0]


async def test_a_wait_without_end_is_cut_off():
    async def waits():
        await asyncio.Event().wait()

    assert repr(await gives_one(waits)).startswith("○ your code was not finished after 0.3 s")


async def test_code_that_swallows_its_cancellation_is_cut_off_all_the_same():
    gate = asyncio.Event()

    async def stubborn():
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                continue

    assert "was not finished" in repr(await gives_one(stubborn))
    assert not gate.is_set()  # it was not waited for
    gate.set()


def test_an_endless_loop_is_stopped():
    turns = [0]

    def spins():
        while True:
            turns[0] += 1

    assert "was not finished" in repr(gives_one_now(spins))
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        seen = turns[0]
        time.sleep(0.05)
        if turns[0] == seen:
            break
    else:
        pytest.fail("the loop still runs")


async def test_an_uncaught_timeout_is_explained():
    async def times_out():
        raise TimeoutError

    assert "a `TimeoutError` was not caught" in repr(await gives_one(times_out))


async def test_advice_inside_a_group_of_tasks_is_found():
    @check("a group", task=1, lesson="01")
    async def group():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(10))
            tasks.create_task(fails())

    async def fails():
        advice("one of them failed — look at it")

    assert repr(await group()) == "○ one of them failed — look at it"


async def test_cancelling_the_cell_cancels_the_check():
    seen, begun = [], asyncio.Event()

    async def waits():
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    task = asyncio.ensure_future(asyncio.wait_for(gives_one(waits), 10))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert seen == ["cancelled"]


async def test_code_that_cancels_itself_gets_a_circle():
    async def cancels_itself():
        raise asyncio.CancelledError

    assert "was cancelled" in repr(await gives_one(cancels_itself))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_interrupt_and_exit_reach_the_cell(error):
    async def leaves():
        raise error

    with pytest.raises(error):
        await gives_one(leaves)

    def leaves_at_once():
        raise error

    with pytest.raises(error):
        gives_one_now(leaves_at_once)


async def test_a_forgotten_await_is_pointed_out():
    assert repr(gives_one(one)) == "○ nothing was checked yet — write `await gives_one(…)`"


async def test_hints_come_level_by_level_and_then_end():
    result = await gives_one(two)
    assert result.hint() == "Think."
    assert result.hint(2) == "Return 1."
    assert "linked" in result.hint(3)
    assert (await gives_one(one)).hint() == "This task is solved."


async def test_the_card_escapes_what_the_learner_wrote():
    async def shouts():
        raise ValueError("<script>alert(1)</script>")

    card = (await gives_one(shouts))._repr_html_()
    assert "<script>" not in card
    assert "<code>" in card
    assert "Task 1" in card
