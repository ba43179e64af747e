"""The lesson's own server in Node gets the verdicts that it has earned, and no others."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from bench.node import PEER, node_command
from chatlab.grade import Level, Verdict, grade

SECRET = "a-secret-of-the-peer's-own-tests-0123456789"

BROKEN = {
    "ids-differ",  # Date.now() is no id
    "validated",  # a number has no trim()
    "stays-up",  # an event without an ack: `answer` is undefined, and the process ends
    "flood-acked",  # what is over the limit is dropped, its ack with it
    "sockets-share-limit",  # the limit is the socket's
    "reconnecting-no-way-round",
}


def is_here() -> bool:
    try:
        node_command()
    except RuntimeError:
        return False
    return (PEER / "node_modules" / "socket.io").is_dir()


pytestmark = pytest.mark.skipif(
    not is_here() and not os.environ.get("CI"), reason="no Node or no `npm ci` in bench/peer"
)


@pytest.fixture
def peer() -> Iterator[str]:
    running = subprocess.Popen(
        [*node_command(), "server.js"],
        cwd=PEER,
        env={**os.environ, "PEER_SECRET": SECRET},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert running.stdout is not None
        found = re.search(r"http://\S+", running.stdout.readline())
        assert found is not None
        yield found[0]
    finally:
        running.kill()
        running.wait()
        running.stdout.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_the_lessons_server_in_node_breaks_what_its_faults_break(peer: str) -> None:
    claims = {"userId": "sub", "username": "name"}
    report = await grade(peer, secret=SECRET, claims=claims, level=Level.LESSON)
    broken = {result.promise.id: result.said for result in report.of(Verdict.BROKEN)}
    assert set(broken) == BROKEN, broken
    assert broken["stays-up"] == "the server is gone: events such as these ended it"
    not_judged = {result.promise.id for result in report.of(Verdict.NOT_JUDGED)}
    assert not_judged == {
        "unknown-user-refused",
        "storage-failure-acked",
        "rooms-span-servers",
        "announced-across-servers",
        "each-once-across-servers",
        "one-order-across-servers",
    }
