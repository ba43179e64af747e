"""chatlab's websocket layer under the cases of the Autobahn test suite (RFC 6455)."""

from __future__ import annotations

import pytest

pytest.importorskip("kosoku", reason="the cases come with the package kosoku, of the test extra")

from tests.rfc6455.cases import judge

CASES = 301


async def test_no_case_fails_that_aiohttps_own_websocket_passes() -> None:
    verdicts = await judge("chatlab")
    assert len(verdicts) == CASES
    failed = list(verdicts.failed)
    theirs = await judge("aiohttp", failed) if failed else verdicts
    assert set(failed) <= set(theirs.failed), verdicts.failed


# The package's own cases leave their data files open.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
async def test_a_case_of_compression_passes_when_it_is_offered() -> None:
    verdicts = await judge("chatlab", ["12.1.1", "12.2.5", "13.1.1", "13.3.1"], without=())
    assert (len(verdicts), verdicts.failed) == (4, {})
