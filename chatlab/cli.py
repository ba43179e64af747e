"""The command `chatlab`: serve, token, user, bench, grade, demo, doctor.

Every option of `serve` is a setting; its `CHATLAB_*` variable serves as well.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import Field, replace
from typing import Any, Final

from chatlab.errors import SettingsError
from chatlab.knobs import parse
from chatlab.settings import Settings, options

__all__ = ["main"]

_HIDDEN: Final = ("jwt_secret",)  # a secret does not belong on a command line: `ps` shows it
_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code. A mistake is one sentence on stderr and a 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments[:1] == ["bench"]:  # it has a parser of its own
            return _bench(arguments[1:])
        if arguments[:1] == ["demo"]:
            return _demo(arguments[1:])
        if arguments[:1] == ["grade"]:
            return _grade(arguments[1:])
        given = _parser().parse_args(arguments)
        code: int = given.run(given)
    except SettingsError as error:
        sys.stderr.write(f"chatlab: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chatlab", description="A production Socket.IO chat.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run the server")
    _add_settings(serve, [option for option in options() if option.name not in _HIDDEN])
    serve.set_defaults(run=_serve)

    token = commands.add_parser("token", help="print a token that a server beside it takes")
    token.add_argument("user", help="the user's id: the token's `sub`")
    token.add_argument("--name", help="a name to show")
    token.add_argument("--rooms", help="private rooms it may join, comma between; globs work")
    token.add_argument("--ttl", type=_duration, default=900.0, help="how long: 15m (default), 2h")
    _add_settings(token, [option for option in options() if option.name.startswith("jwt_")])
    token.set_defaults(run=_token)

    user = commands.add_parser("user", help="who may connect: add, ban, unban, list")
    user.add_argument("action", choices=("add", "ban", "unban", "list"))
    user.add_argument("user", nargs="?", help="the user's id")
    user.add_argument("--name", help="a name to show (add)")
    _add_settings(user, [option for option in options() if option.name == "storage"])
    user.set_defaults(run=_user)

    commands.add_parser("bench", help="start a server without limits and measure it")

    commands.add_parser("demo", help="an instructor's stage: a cluster to break before a room")
    commands.add_parser("grade", help="judge any server by the wire contract")

    doctor = commands.add_parser("doctor", help="say what this machine has for the workshop")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_settings(parser: argparse.ArgumentParser, chosen: Sequence[Field[Any]]) -> None:
    for option in chosen:
        if option.name in _HIDDEN:
            continue
        flag = "--" + option.name.replace("_", "-")
        text = option.metadata["help"].replace("%", "%%")
        if option.default not in ("", (), False, True):
            text += f" (default {option.default})"
        if isinstance(option.default, bool):
            parser.add_argument(
                flag,
                action=argparse.BooleanOptionalAction if option.default else "store_true",
                default=argparse.SUPPRESS,
                help=text,
            )
        else:
            parser.add_argument(
                flag,
                type=_reader(option),
                default=argparse.SUPPRESS,
                metavar="|".join(option.metadata["choices"]) or option.name.split("_")[-1].upper(),
                help=text,
            )


def _reader(option: Field[Any]) -> Any:
    def read(text: str) -> Any:
        try:
            return parse(option, text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _duration(text: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)", text)
    if match is None or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration: write 30s, 15m, 2h or 1d")
    return float(match[1]) * _UNITS[match[2]]


def _settings(given: argparse.Namespace, **more: Any) -> Settings:
    names = {option.name for option in options()}
    values = {name: value for name, value in vars(given).items() if name in names}
    return Settings.load({**values, **more})


def _serve(given: argparse.Namespace) -> int:
    from chatlab.server.run import serve

    settings = _settings(given)
    made_here = settings.dev and not Settings.given_secret()
    serve(settings, show_secret=made_here)
    return 0


def _token(given: argparse.Namespace) -> int:
    from chatlab.server.auth import Tokens

    rooms = given.rooms.split(",") if given.rooms else None
    issued = Tokens(_settings(given)).issue(given.user, ttl=given.ttl, name=given.name, rooms=rooms)
    sys.stdout.write(issued + "\n")
    return 0


def _user(given: argparse.Namespace) -> int:
    from chatlab.storage import open_users
    from chatlab.storage.base import User

    if given.action != "list" and not given.user:
        raise SettingsError(f"chatlab user {given.action} needs a user's id")
    # Users are kept in the store; no secret is needed to reach it.
    storage = getattr(given, "storage", None) or Settings.storage_from_environment()
    with open_users(storage, create=given.action in ("add", "ban")) as users:
        if given.action == "list":
            for user in users.list():
                sys.stdout.write(f"{user.id}\t{user.name}\t{'banned' if user.banned else ''}\n")
            return 0
        if given.action == "add":
            known = users.get(given.user) or User(given.user, given.user)
            users.put(replace(known, name=given.name or known.name))
        elif users.set_banned(given.user, given.action == "ban") is None:
            if given.action == "unban":
                raise SettingsError(f"there is no user {given.user!r}")
            # With --dev anybody may connect: a ban must hold for who was never added, too.
            users.put(User(given.user, given.name or given.user, banned=True))
    return 0


def _bench(arguments: Sequence[str]) -> int:
    # The load generator is part of the workshop, which takes a second to import.
    from chatlab.lab import load_command

    return load_command.main(arguments, prog="chatlab bench")


def _demo(arguments: Sequence[str]) -> int:
    from chatlab.stage import command

    return command.main(arguments)


def _grade(arguments: Sequence[str]) -> int:
    from chatlab.grade import command

    return command.main(arguments)


def _doctor(_given: argparse.Namespace) -> int:
    from chatlab import doctor

    return doctor.main()
