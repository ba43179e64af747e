"""docs/deploy.md names only what there is: settings, metrics, log lines, files, headings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chatlab.cli import _parser
from chatlab.errors import InvalidToken
from chatlab.lab.tokens import mint
from chatlab.server import ChatServer
from chatlab.server.auth import Tokens
from chatlab.settings import Settings, options

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "deploy.md").read_text()
PROSE = re.sub(r"(?s)```.*?```", "", TEXT)
OTHERS = {
    # of docker, pip, curl and make, in commands
    *("--build", "--detach", "--no-recreate", "--scale", "--constraint", "--fail", "--silent"),
    *("--now", "--upgrade", "--only", "--help"),
}


def test_each_option_is_one_of_the_server() -> None:
    known = {"--" + option.name.replace("_", "-") for option in options()} | {"--no-polling"}
    assert _parser().parse_args(["serve", "--no-polling"]).polling is False
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT))
    assert named - OTHERS <= known


def test_each_variable_is_a_setting() -> None:
    known = {f"CHATLAB_{option.name.upper()}" for option in options()}
    known |= {"CHATLAB_JWT_SECRET_FILE", "CHATLAB_SITE"}  # the latter is compose.yaml's
    assert set(re.findall(r"CHATLAB_[A-Z_]+", TEXT)) <= known


async def test_each_metric_is_one_of_the_server() -> None:
    server = ChatServer(Settings(dev=True))
    server.metrics.answered("send-message", "ok", 0.01)
    server.metrics.refusals["invalid_token"] += 1
    shown = server.metrics.text().decode()
    for name in set(re.findall(r"\bchatlab_[a-z_]+", TEXT)):
        assert re.search(rf"^{name}(_bucket)?\b", shown, re.MULTILINE), name


def test_each_log_line_is_one_that_is_written() -> None:
    table = TEXT.partition("Lines to know:")[2].partition("##")[0]
    source = "\n".join(path.read_text() for path in (ROOT / "chatlab").rglob("*.py"))
    quoted = [line for row in table.splitlines() for line in re.findall(r"`([^`]+)`", row[:70])]
    words = [part for line in quoted for part in line.replace("…", "|").split("|")]
    for part in words:
        if part.strip(": ") and part.strip() not in {"unavailable"}:
            assert part.strip(": ") in source, part


def test_each_section_that_the_lessons_link_to_is_there() -> None:
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in TEXT.splitlines()
        if line.startswith("#")
    }
    sources = [*(ROOT / "authoring").glob("*.py"), *(ROOT / "authoring" / "exercises").glob("*.py")]
    linked = {
        anchor
        for path in [*sources, ROOT / "README.md", ROOT / "docs" / "deploy.md"]
        for anchor in re.findall(
            r"docs/deploy\.md#([\w-]+)" if path.name != "deploy.md" else r"\]\(#([\w-]+)\)",
            path.read_text(),
        )
    }
    assert linked <= headings


def accepted(secrets: str, signed_with: str) -> bool:
    try:
        Tokens(Settings(jwt_secret=secrets)).verify(mint("alice", secret=signed_with))
    except InvalidToken:
        return False
    return True


@pytest.mark.parametrize(
    ("servers", "signer", "also"),
    [("OLD,NEW", "OLD", "NEW"), ("OLD,NEW", "NEW", "OLD"), ("NEW", "NEW", None)],
)
def test_at_no_step_of_a_rotation_is_a_token_refused_that_should_be_taken(
    servers: str, signer: str, also: str | None
) -> None:
    old, new = "o" * 40, "n" * 40
    filled = servers.replace("OLD", old).replace("NEW", new)
    by_name = {"OLD": old, "NEW": new}
    assert accepted(filled, by_name[signer])
    if also:
        assert accepted(filled, by_name[also])
    else:
        assert not accepted(filled, old)
