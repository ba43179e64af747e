"""The checks of the capstone take right answers however they are written, and name what is wrong.

Wrong answers are the solution with one thing changed, each run as a program and graded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatlab import doctor
from chatlab.lab.exercises import ex08

ROOT = Path(__file__).resolve().parents[2]
SOLUTION = (ROOT / "solutions" / "my_chat.py").read_text(encoding="utf-8")
shared = pytest.mark.skipif(not doctor.has("valkey"), reason="this machine has no Valkey")
pytestmark = pytest.mark.timeout(120)

Program = Callable[[str], str]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    def write(text: str) -> str:
        path = tmp_path / "my_chat.py"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def changed(*changes: tuple[str, str], text: str = SOLUTION) -> str:
    """The solution with something in it replaced."""
    for old, new in changes:
        assert old in text, f"the solution does not say {old!r} any more"
        text = text.replace(old, new)
    return text


# -- right answers ---------------------------------------------------------------------------------


async def test_the_solution_keeps_every_promise_on_its_own(program: Program) -> None:
    result = await ex08.earns_the_level(program(SOLUTION))
    assert result.done, result.advice


def test_the_solution_has_at_most_150_lines_counted_in_any_way() -> None:
    assert len(SOLUTION.splitlines()) <= ex08.MOST_LINES == 150


@shared
@pytest.mark.parametrize("name", ["solutions/my_chat.py", "notebooks/steps/step5.py"])
async def test_two_of_them_may_be_one_chat_in_any_way(name: str) -> None:
    result = await ex08.is_one_chat_on_two_servers(str(ROOT / name))
    assert result.done, result.advice


@pytest.mark.parametrize(
    "check",
    [
        ex08.acknowledges,
        ex08.knows_who_it_is,
        ex08.answers_whatever_happens,
        ex08.keeps_to_a_limit,
    ],
    ids=lambda check: check.__name__,
)
async def test_a_server_written_otherwise_is_as_good(check: Any) -> None:
    # A handler for each event, a wrapper, a class for the bucket: longer, and right.
    result = await check(str(ROOT / "notebooks" / "steps" / "step5.py"))
    assert result.done, result.advice


# -- wrong answers ---------------------------------------------------------------------------------

ACK = 'ack = {"id": os.urandom(16).hex(), "timestamp": now}'
SPEND = "                spend(user)\n"
TYPE = next(line for line in SOLUTION.splitlines(keepends=True) if "isinstance(text, str)" in line)
MEMBER = next(line for line in SOLUTION.splitlines(keepends=True) if "sio.rooms(sid), " in line)
LEFT = "    async def disconnect(sid, reason):\n"
WRONG = {
    "acks nothing": (
        ex08.acknowledges,
        [
            (
                'return {"ok": True, **await handler(sid, user, data)}',
                "await handler(sid, user, data)",
            )
        ],
        "`join-acked`: the ack of joining a room is not an object",
    ),
    "makes ids of the clock": (
        ex08.acknowledges,
        [("os.urandom(16).hex()", "int(datetime.now().timestamp())")],
        "take random bytes",
    ),
    "prints times as Python does": (
        ex08.acknowledges,
        [('.replace("+00:00", "Z")', "")],
        "write `Z` instead",
    ),
    "sends to the sender, too": (
        ex08.acknowledges,
        [('"skip_sid": message.pop("sid")', '"skip_sid": message.pop("sid") and None')],
        "the sender received the own message",
    ),
    "does not look at the signature": (
        ex08.knows_who_it_is,
        [('CLAIMS = {"require"', 'CLAIMS = {"verify_signature": False, "require"')],
        "verify the signature",
    ),
    "crashes at a token that is none": (
        ex08.knows_who_it_is,
        [
            (
                "    except Exception as error:  # whatever",
                "    except KeyError as error:  # whatever",
            )
        ],
        "lets them in half",
    ),
    "believes the payload": (
        ex08.knows_who_it_is,
        [
            (
                'data.keys() <= {"text", "room"}',
                'data.keys() <= {"text", "room", "user", "userId"}',
            ),
            (
                '"user": user, "room": room, "text"',
                '"user": data.get("user", user), "room": room, "text"',
            ),
        ],
        "what a payload says about it counts for nothing",
    ),
    "uses before it looks": (
        ex08.answers_whatever_happens,
        [(TYPE, "")],
        "look at the types before you use them",
    ),
    "sends the exception": (
        ex08.answers_whatever_happens,
        [
            (TYPE, ""),
            ('Refusal("Internal server error"', "Refusal(repr(error)"),
        ],
        "its text is for you",
    ),
    "lets strangers speak": (
        ex08.answers_whatever_happens,
        [
            (MEMBER, ""),
            (
                '{"to": "room:" + message["room"]',
                '{"to": "room:" + message["room"] if message["room"] else None',
            ),
        ],
        "reaches everybody",
    ),
    "has no limit": (ex08.keeps_to_a_limit, [(SPEND, "")], "take a token of a bucket"),
    "counts for each connection": (
        ex08.keeps_to_a_limit,
        [(SPEND, "                spend(sid)\n")],
        "keep the buckets by user, not by sid",
    ),
    "drops what is too much": (
        ex08.keeps_to_a_limit,
        [
            (
                "await asyncio.sleep(0)",
                'await asyncio.sleep(30 * (no.ack["code"] == "rate_limited"))',
            ),
            ("asyncio.timeout(PATIENCE)", "asyncio.timeout(None)"),
            ('"async_handlers": False', '"async_handlers": True'),
        ],
        "`flood-told`",
    ),
    "forgets who floods and leaves": (
        ex08.keeps_to_a_limit,
        [(LEFT, LEFT + '        buckets.pop((await sio.get_session(sid))["user"], None)\n')],
        "do not forget a bucket",
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_answer_is_named(name: str, program: Program) -> None:
    check, changes, named = WRONG[name]
    result = await check(program(changed(*changes)))
    assert not result.done
    assert named in result.advice
    assert re.search(r"\d of \d kept", result.advice)


APART = {
    "shares nothing": (
        [("given.redis)", "None)")],
        "AsyncRedisManager(url)",
    ),
    "shares by the manager alone": (
        [
            ('store.xadd("chat", message, maxlen=10_000) if store else deliver', "deliver"),
            (', "ignore_queue": True', ""),
        ],
        "saw two orders",
    ),
    "delivers twice": (
        [(', "ignore_queue": True', "")],
        "a message goes to each server once",
    ),
    "tells only at home who comes": (
        [("socketio.AsyncRedisManager(url) if url else None", "None")],
        "`announced-across-servers`",
    ),
}


@shared
@pytest.mark.parametrize("name", APART)
async def test_two_servers_that_are_not_one_chat_are_named(name: str, program: Program) -> None:
    changes, named = APART[name]
    result = await ex08.is_one_chat_on_two_servers(program(changed(*changes)))
    assert not result.done
    assert named in result.advice


# -- what is no answer -----------------------------------------------------------------------------


async def test_a_file_of_151_lines_is_one_too_long(program: Program) -> None:
    more = "\n" * (ex08.MOST_LINES + 1 - len(SOLUTION.splitlines()))
    result = await ex08.earns_the_level(program(SOLUTION + more))
    assert not result.done
    assert "in 151 lines — bring it down to 150" in result.advice


async def test_a_server_that_is_chatlab_is_nobodys_own(program: Program) -> None:
    result = await ex08.earns_the_level(program("import chatlab.lab\n" + SOLUTION))
    assert not result.done
    assert "imports chatlab" in result.advice


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (
            "import socketio\nsocketio.AsyncServer(mode=)\n",
            "the last that it said was `SyntaxError",
        ),
        ("print('hello')\n", "ended before it said that it listens"),
        (changed(("sio.attach(app)", "pass")), "attach the Socket.IO server"),
    ],
    ids=["is no Python", "does not listen", "is no Socket.IO"],
)
async def test_a_program_that_is_no_server_yet_is_named(
    text: str, named: str, program: Program
) -> None:
    result = await ex08.acknowledges(program(text))
    assert not result.done
    assert named in result.advice


async def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = await ex08.acknowledges(str(tmp_path / "my_chat.py"))
    assert not result.done
    assert "there is no file" in result.advice


async def test_what_the_program_said_of_its_own_failure_is_told(program: Program) -> None:
    crash = changed(('room = data.get("room") if', "room = data.nothing if"))
    text = changed(("isinstance(data, dict) else data\n", "True else data\n"), text=crash)
    result = await ex08.acknowledges(program(text))
    assert not result.done
    assert "your program said" in result.advice
    assert "AttributeError" in result.advice


async def test_a_changed_file_is_graded_anew(program: Program) -> None:
    assert not (await ex08.acknowledges(program(changed((ACK, 'ack = {"timestamp": now}'))))).done
    assert (await ex08.acknowledges(program(SOLUTION))).done
