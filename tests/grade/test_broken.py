"""A server that is broken on purpose, for each promise: the verdict turns, and no unrelated one."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatlab.grade.catalogue import catalogue
from chatlab.lab import valkey
from chatlab.lab.valkey import find_valkey
from tests.grade import broken
from tests.grade.broken import Mutation
from tests.grade.broken_trial import Servers, complaints, judge, others, serving, with_needs

PROMISES = catalogue()
MUTATIONS = broken.load()
AT_ONCE = 12
# Those that wait longest are begun first.
FIRST = ("the-dead-are-never-taken-out", "nobody-has-to-connect")

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="broken servers are forked"),
]


def test_every_promise_is_broken_by_a_server() -> None:
    named = {id for mutation in MUTATIONS.values() for id in mutation.turns}
    assert named == {promise.id for promise in PROMISES}


def test_what_is_broken_besides_is_of_another_concern_and_has_a_reason() -> None:
    concerns = {promise.id: promise.concern for promise in PROMISES}
    for mutation in MUTATIONS.values():
        own = {concerns[id] for id in mutation.turns}
        for id, reason in mutation.besides.items():
            assert concerns[id] not in own, f"{mutation.name}: {id} is of its own concern"
            assert reason.strip()


@pytest.fixture(scope="module")
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, list[str]]]:
    """What is wrong with each mutation's verdicts; all that were asked for, several at once."""
    asked = [
        item.callspec.params["mutation"]
        for item in request.session.items
        if getattr(item, "originalname", "")
        == test_it_turns_its_verdict_and_no_unrelated_one.__name__
    ]
    asked.sort(key=lambda name: name not in FIRST)
    folder = tmp_path_factory.mktemp("broken")
    shared = any(MUTATIONS[name].storage == "redis" for name in asked)
    store = valkey(persist=False, name="broken servers") if shared and has_valkey() else None
    servers = Servers()
    try:
        yield asyncio.run(_all(servers, asked, folder, store.url if store else ""))
    finally:
        servers.close()
        if store is not None:
            store.stop()


async def _all(servers: Servers, asked: list[str], folder: Path, url: str) -> dict[str, list[str]]:
    slots, wrong = asyncio.Semaphore(AT_ONCE), {}

    async def one(mutation: Mutation) -> None:
        async with slots:
            try:
                wrong[mutation.name] = await _one(servers, mutation, folder, url)
            except Exception as error:  # of this one; the others are judged all the same
                wrong[mutation.name] = [f"{type(error).__name__}: {error}"]

    async with asyncio.TaskGroup() as group:
        for name in asked:
            if url or MUTATIONS[name].storage != "redis":
                group.create_task(one(MUTATIONS[name]))
    # Some limits cannot be told from none where everything takes long: once more, one by one.
    for name in [name for name in wrong if wrong[name]][:AT_ONCE]:
        await one(MUTATIONS[name])
    return wrong


async def _one(servers: Servers, mutation: Mutation, folder: Path, url: str) -> list[str]:
    named = [promise for promise in PROMISES if promise.id in mutation.turns]
    beside = with_needs(others(mutation, PROMISES), mutation)
    with serving(servers, mutation, folder, url) as running:
        kept, turned = await judge(running, beside, named)
        return complaints(mutation, turned, kept)


def has_valkey() -> bool:
    try:
        find_valkey()
    except (RuntimeError, FileNotFoundError):
        return False
    return importlib.util.find_spec("redis") is not None


@pytest.mark.parametrize("mutation", [name for name in MUTATIONS if MUTATIONS[name].turns])
def test_it_turns_its_verdict_and_no_unrelated_one(
    mutation: str, found: dict[str, list[str]]
) -> None:
    if mutation not in found:
        pytest.skip("there is no Valkey here")
    assert found[mutation] == []
