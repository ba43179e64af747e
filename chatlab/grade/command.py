"""The command `chatlab grade URL`: reads the options, grades, writes the report.

Exit code 0 where nothing at the asked levels is broken, 1 where something is, 2 where nothing could
be graded.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from chatlab.grade.catalogue import catalogue, chosen
from chatlab.grade.control import COMMANDS
from chatlab.grade.grading import grade
from chatlab.grade.promise import CONCERNS, Level
from chatlab.grade.report_json import as_json
from chatlab.grade.report_junit import as_junit
from chatlab.grade.result import Result
from chatlab.grade.run import Unreachable
from chatlab.grade.table import listing, table, wants_colour, width_of
from chatlab.grade.tokens import KINDS, TokenError, command_of

__all__ = ["main"]

_SECRET: Final = "CHATLAB_JWT_SECRET"  # noqa: S105 (the variable's name)
_CLAIMS: Final = ("sub", "name", "exp", "iat", "iss", "aud", "rooms")
_ALGORITHMS: Final = ("HS256", "HS384", "HS512")


def main(arguments: Sequence[str], *, prog: str = "chatlab grade") -> int:
    """Run the command; returns the exit code. A mistake is one sentence on stderr and a 2."""
    parser = _parser(prog)
    given = parser.parse_args(arguments)
    known = catalogue()
    for name in given.only:
        if name not in {promise.id for promise in known}:
            parser.error(f"--only {name}: there is no such promise; --list shows them")
    level = Level[given.level.upper()]
    picked = chosen(known, level=level, concerns=given.concern, only=given.only)
    if given.list:
        sys.stdout.write(listing(picked, width=width_of(sys.stdout)))
        return 0
    if given.url is None:
        parser.error("give the server's address: chatlab grade http://127.0.0.1:3001")
    if not picked:
        parser.error("no promise is chosen by these options; --list shows which there are")
    try:
        return _grade(given, level, _secret(given))
    except (Unreachable, TokenError, _UsageError) as error:
        sys.stderr.write(f"{prog}: {error}\n")
        return 2


class _UsageError(Exception):
    """A mistake in the options; the text is the sentence for stderr."""


def _grade(given: argparse.Namespace, level: Level, secret: str) -> int:
    progress = _Progress()
    report = asyncio.run(
        grade(
            given.url,
            secret=secret,
            token_command=given.token_command,
            users=given.user,
            claims=dict(given.claim),
            issuer=given.issuer,
            audience=given.audience,
            algorithm=given.algorithm,
            also=given.also,
            control=given.control,
            path=given.path,
            level=level,
            concerns=given.concern,
            only=given.only,
            timeout=given.timeout,
            jobs=given.jobs,
            told=progress.told,
        )
    )
    progress.end()
    to_stdout = "-" in (given.json, given.junit)
    for file, text in ((given.json, as_json(report)), (given.junit, as_junit(report))):
        if file == "-":
            sys.stdout.write(text)
        elif file:
            try:
                Path(file).write_text(text, encoding="utf-8")
            except OSError as error:
                raise _UsageError(f"{file} cannot be written: {error.strerror}") from None
    if not to_stdout:
        colour, width = wants_colour(sys.stdout), width_of(sys.stdout)
        sys.stdout.write(table(report, width=width, colour=colour, evidence=given.evidence))
    return 1 if report.broken else 0


def _secret(given: argparse.Namespace) -> str:
    if given.token_command:
        return ""
    name = given.secret_env or _SECRET
    secret = os.environ.get(name, "")
    if secret:
        return secret
    if given.secret_env:
        raise _UsageError(f"--secret-env {name}: the environment has no such variable")
    raise _UsageError(
        f"tokens are needed: set {_SECRET} to the server's secret, name another variable with "
        "--secret-env, or give --token-command"
    )


class _Progress:
    """One line on a terminal's stderr that says how far the run is."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._count = 0

    def told(self, _result: Result) -> None:
        self._count += 1
        if self._on:
            sys.stderr.write(f"\r{self._count} promises judged")
            sys.stderr.flush()

    def end(self) -> None:
        if self._on and self._count:
            sys.stderr.write("\r\x1b[K")


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Judge a Socket.IO chat server from outside, by the wire contract.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", nargs="?", type=_url, metavar="URL", help="the server's address")
    what = parser.add_argument_group("what is judged")
    levels = [level.name.lower() for level in Level]
    what.add_argument(
        "--level",
        choices=levels,
        default=levels[-1],
        help="up to which level (default: all)",
    )
    what.add_argument(
        "--concern", type=_concern, action="append", default=[], help="only this concern"
    )
    what.add_argument("--only", action="append", default=[], metavar="ID", help="only this promise")
    what.add_argument("--list", action="store_true", help="show the promises and judge nothing")

    who = parser.add_argument_group("tokens and users")
    who.add_argument(
        "--secret-env",
        metavar="NAME",
        help=f"the variable that holds the server's secret (default {_SECRET})",
    )
    who.add_argument(
        "--token-command", type=_command, default=[], metavar="CMD", help="makes tokens; see below"
    )
    who.add_argument(
        "--user",
        action="append",
        default=[],
        metavar="ID",
        help="a user that the server knows; may be repeated, four are best (default: made up)",
    )
    who.add_argument(
        "--claim",
        type=_claim,
        action="append",
        default=[],
        metavar="THEIRS=OURS",
        help="the server reads OURS under another name, as in userId=sub",
    )
    who.add_argument("--issuer", default="chatlab", help="`iss` of the tokens")
    who.add_argument("--audience", default="chatlab", help="`aud` of the tokens")
    who.add_argument("--algorithm", choices=_ALGORITHMS, default="HS256")

    how = parser.add_argument_group("the server")
    how.add_argument(
        "--also",
        type=_url,
        action="append",
        default=[],
        metavar="URL",
        help="a further server of the same cluster; may be repeated",
    )
    how.add_argument(
        "--control", type=_command, default=[], metavar="CMD", help="breaks things; see below"
    )
    how.add_argument("--path", default="/socket.io/", help="of Socket.IO (default /socket.io/)")
    how.add_argument(
        "--timeout",
        type=_seconds,
        default=5.0,
        metavar="S",
        help="seconds that an answer may take (default 5); three times that for a server's first, "
        "twice when tried again",
    )
    how.add_argument("--jobs", type=_jobs, default=8, help="promises tried side by side")

    out = parser.add_argument_group("the report")
    out.add_argument("--json", metavar="FILE", help="write JSON too (-: to stdout, instead)")
    out.add_argument("--junit", metavar="FILE", help="write JUnit XML too (-: to stdout, instead)")
    out.add_argument(
        "--evidence",
        type=int,
        default=8,
        metavar="N",
        help="packets shown below what was broken (default 8)",
    )
    return parser


_EPILOG: Final = "\n".join(
    [
        "--token-command CMD is run as `CMD USER TTL KIND [ROOM …]` and prints a token for USER",
        "that lasts TTL seconds and opens the private ROOMs. It may exit with another code than 0",
        "where it cannot make a KIND: what needs that is not judged. The kinds:",
        *(f"  {kind:<16} {text}" for kind, text in KINDS.items()),
        "",
        "--control CMD is run as `CMD WORD …` and returns when it is done, with 0; with 3 where it",
        "cannot do that at all: what needs it is not judged. The words:",
        *(f"  {text}" for text in COMMANDS.values()),
        "",
        "Exit code: 0 nothing at the asked levels is broken; 1 something is; 2 nothing was graded.",
    ]
)


def _url(text: str) -> str:
    text = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address like http://127.0.0.1:3001")
    return text.rstrip("/")


def _concern(text: str) -> str:
    name = text.replace("-", " ").lower()
    if name not in CONCERNS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(CONCERNS)}")
    return name


def _claim(text: str) -> tuple[str, str]:
    theirs, equals, ours = text.partition("=")
    if not (theirs and equals) or ours not in _CLAIMS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not like userId=sub; on the right stands one of {', '.join(_CLAIMS)}"
        )
    return theirs, ours


def _command(text: str) -> list[str]:
    try:
        words = command_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no command: {error}") from None
    if not words:
        raise argparse.ArgumentTypeError("the command is empty")
    return words


def _seconds(text: str) -> float:
    return _number(text, float, 0.1, 600.0)


def _jobs(text: str) -> int:
    return int(_number(text, int, 1, 64))


def _number(text: str, kind: Any, low: float, high: float) -> float:
    try:
        value = float(kind(text))
    except ValueError:
        value = -1.0
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not between {low:g} and {high:g}")
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], prog="python -m chatlab.grade.command"))
