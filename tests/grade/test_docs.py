"""docs/grade.md names every promise as the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatlab.grade import Level, promise
from chatlab.grade.catalogue import catalogue, chosen
from chatlab.grade.control import COMMANDS
from chatlab.grade.markdown import with_promises
from chatlab.grade.promise import CONCERNS
from chatlab.grade.target import Target

PAGE = Path(__file__).parents[2] / "docs" / "grade.md"


def test_the_page_lists_the_promises_as_the_code_declares_them() -> None:
    text = PAGE.read_text(encoding="utf-8")
    again = "run `python -m chatlab.grade.markdown docs/grade.md`"
    assert with_promises(text, catalogue()) == text, again


def test_the_page_explains_every_word_of_control() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [word for word in COMMANDS if f"`{word}" not in text] == []


def test_a_page_without_the_marks_is_not_written() -> None:
    with pytest.raises(ValueError, match="has no"):
        with_promises("nothing here", catalogue())


def test_every_concern_is_judged_at_the_first_two_levels() -> None:
    for level in (Level.LESSON, Level.CONTRACT):
        assert {p.concern for p in catalogue() if p.level is level} == set(CONCERNS)


def test_a_promise_needs_only_what_is_judged_at_its_level_or_before() -> None:
    levels = {each.id: each.level for each in catalogue()}
    too_high = [
        (each.id, need) for each in catalogue() for need in each.needs if levels[need] > each.level
    ]
    assert too_high == []


def test_control_words_are_known() -> None:
    used = {word for each in catalogue() for word in each.control}
    assert used <= set(COMMANDS)


def test_promises_are_chosen_by_level_concern_and_id() -> None:
    everything = catalogue()
    assert all(p.level is Level.LESSON for p in chosen(everything, level=Level.LESSON))
    assert {p.concern for p in chosen(everything, concerns=["errors"])} == {"errors"}
    assert [p.id for p in chosen(everything, only=["admits"])] == ["admits"]


def test_a_promise_keeps_what_it_was_declared_with() -> None:
    @promise("late", "errors", Level.LESSON, "It comes.", users=3, risky=True)
    async def late(_target: Target) -> None:
        """Nothing to try."""

    assert (late.id, late.users, late.risky, late.alone) == ("late", 3, True, True)
