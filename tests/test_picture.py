"""The README's picture is a run of the real server and client, and shows what it says."""

from __future__ import annotations

import picture


async def test_the_readmes_picture_is_what_a_run_of_today_draws() -> None:
    drawn = await picture.draw()
    assert picture.PICTURE.read_text(encoding="utf-8") == drawn + "\n", "run authoring/picture.py"
