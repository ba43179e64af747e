"""The faults for which chatlab.transport replaces the libraries' classes, played one by one.

Each is played against python-socketio's own classes (5.18.1 with python-engineio 4.15.1), which
have the fault, and against ours, which has not. When the first of a pair fails, the library was
repaired, and what `mended_by` names may go.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

import pytest

from tests.protocol import faults_engineio, faults_socketio
from tests.protocol.faults import Fault
from tests.protocol.world import stock, strict

FAULTS = [*faults_engineio.FAULTS, *faults_socketio.FAULTS]

every_fault = pytest.mark.parametrize(
    "fault", FAULTS, ids=[fault.scenario.__name__ for fault in FAULTS]
)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    # The stock classes write a traceback for most of this.
    caplog.set_level(logging.CRITICAL)


@every_fault
async def test_the_stock_classes_have_the_fault(fault: Fault) -> None:
    async with stock(**fault.limits) as world:
        assert await fault.scenario(world), f"repaired upstream: {fault.mended_by} may go"


@every_fault
async def test_ours_has_not(fault: Fault) -> None:
    async with strict(**{**fault.limits, **fault.strict_limits}) as world:
        assert not await fault.scenario(world), f"{fault.mended_by} does not mend it any more"


@every_fault
def test_what_mends_it_is_there(fault: Fault) -> None:
    module, *names = fault.mended_by.split(".")
    found: Any = importlib.import_module(f"chatlab.transport.{module}")
    for name in names:
        found = getattr(found, name)
