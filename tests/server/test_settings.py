"""Settings are validated at start, and what is wrong is said in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chatlab.errors import SettingsError
from chatlab.settings import Rate, Settings, options
from tests.server.child import chatlab
from tests.server.peer import SECRET


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "CHATLAB_JWT_SECRET is not set"),
        ({"jwt_secret": "short"}, "shorter than 32 bytes"),
        ({"jwt_secret": f"{SECRET},short"}, "secret 2 is shorter than 32 bytes"),
        ({"jwt_secret": ",".join([SECRET] * 3)}, "one or two secrets"),
        ({"jwt_secret": SECRET, "jwt_algorithm": "HS512"}, "shorter than 64 bytes"),
        ({"dev": True, "jwt_algorithm": "none"}, "must be one of HS256"),
        ({"no_limits": True, "jwt_secret": SECRET}, "together with --dev"),
        ({"dev": True, "port": 70_000}, "--port must be a whole number"),
        ({"dev": True, "port": True}, "--port must be a whole number"),
        ({"dev": True, "ping_interval": 0.0}, "--ping-interval must be more than 0"),
        ({"dev": True, "ping_timeout": float("nan")}, "--ping-timeout must be a positive number"),
        ({"dev": True, "drain": -1.0}, "--drain must be a positive number"),
        ({"dev": True, "max_frame": 10}, "--max-frame must be a whole number"),
        ({"dev": True, "max_unread": 10_000}, "at least --max-frame, which is 65536"),
        ({"dev": True, "max_payload_packets": 0}, "--max-payload-packets must be a whole number"),
        ({"dev": True, "max_unauthenticated": 0}, "--max-unauthenticated must be a whole number"),
        ({"dev": True, "max_unauthenticated_per_address": -1}, "a whole number from 0 to"),
        ({"dev": True, "user_frame_rate": 0.0}, "--user-frame-rate must be more than 0"),
        ({"dev": True, "user_frame_burst": 0}, "--user-frame-burst must be a whole number from 1"),
        ({"dev": True, "log_lines": -1}, "--log-lines must be a whole number from 0"),
        ({"dev": True, "transport": "node"}, "--transport must be one of strict, stock"),
        ({"dev": True, "storage": "postgres://x"}, "postgres://… is not known"),
        ({"dev": True, "storage": "sqlite://chat.db"}, "three slashes"),
        ({"dev": True, "sqlite_sync": "off"}, "--sqlite-sync must be one of full, normal"),
        ({"dev": True, "log_format": "xml"}, "--log-format must be one of text, json"),
        ({"dev": True, "trusted_proxy": ("proxy.local",)}, "not an address or a network"),
        ({"dev": True, "origins": ("example.org",)}, "is not an origin"),
    ],
)
def test_a_wrong_setting_is_refused_with_a_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence.replace("(", r"\(")):
        Settings(**given)


def test_what_is_given_wins_over_the_environment_and_that_over_the_default() -> None:
    environ = {"CHATLAB_PORT": "4000", "CHATLAB_DEV": "yes", "CHATLAB_ORIGINS": "*"}
    settings = Settings.load({"host": "::1"}, environ)
    assert (settings.host, settings.port, settings.origins) == ("::1", 4000, ("*",))
    assert Settings.load({"port": 5000}, environ).port == 5000
    with pytest.raises(SettingsError, match="CHATLAB_PORT: 'x' is not a whole number"):
        Settings.load({}, {"CHATLAB_PORT": "x", "CHATLAB_DEV": "1"})
    with pytest.raises(SettingsError, match="CHATLAB_DEV: 'maybe' is neither true nor false"):
        Settings.load({}, {"CHATLAB_DEV": "maybe"})


def test_the_secret_may_be_in_a_file_as_container_engines_hand_it_out(tmp_path: Path) -> None:
    file = tmp_path / "jwt_secret"
    file.write_text(f"{SECRET}\n")
    environ = {"CHATLAB_JWT_SECRET_FILE": str(file)}
    assert Settings.load({}, environ).secrets == (SECRET,)
    assert Settings.given_secret(environ)
    file.write_text(f"{'new' * 20}, {SECRET}\n")
    assert Settings.load({}, environ).secrets == ("new" * 20, SECRET)
    assert Settings.load({"jwt_secret": SECRET}, environ).secrets == (SECRET,)


def test_a_file_that_gives_no_secret_is_refused_and_nothing_of_it_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "jwt_secret"
    environ = {"CHATLAB_JWT_SECRET_FILE": str(file)}

    def refusal(**more: str) -> str:
        with pytest.raises(SettingsError) as refused:
            Settings.load({}, {**environ, **more})
        return str(refused.value)

    assert refusal() == f"CHATLAB_JWT_SECRET_FILE: {file} cannot be read: No such file or directory"
    file.write_bytes(b"\xff\xfe hush")
    assert refusal() == f"CHATLAB_JWT_SECRET_FILE: {file} is not a text"
    file.write_text(" \n")
    assert refusal() == f"CHATLAB_JWT_SECRET_FILE: {file} is empty"
    assert "give one" in refusal(CHATLAB_JWT_SECRET=SECRET)


@pytest.mark.parametrize(
    "url", ["redis://:hush@h/0", "redis://:hush?x@h/0", "redis://h?password=x@hush"]
)
def test_a_password_of_redis_is_in_no_repr(url: str) -> None:
    shown = repr(Settings(dev=True, storage=url))
    assert "hush" not in shown
    assert "storage='redis://…'" in shown


def test_the_secret_is_in_no_repr() -> None:
    assert SECRET not in repr(Settings(jwt_secret=SECRET))
    assert "jwt_secret" not in repr(Settings(dev=True))


def test_development_makes_a_secret_and_keeps_messages_in_memory() -> None:
    first, second = Settings(dev=True), Settings(dev=True)
    assert first.storage == "memory://"
    assert len(first.secrets[0]) >= 64
    assert first.secrets != second.secrets
    assert Settings(jwt_secret=SECRET).storage == "sqlite:///chat.db"


def test_no_limits_raises_exactly_the_caps() -> None:
    plain, open_ = Settings(dev=True), Settings(dev=True, no_limits=True)
    for option in options():
        if option.metadata["cap"]:
            assert getattr(open_, option.name) > 100 * getattr(plain, option.name)
        elif option.name not in ("no_limits", "jwt_secret"):
            assert getattr(open_, option.name) == getattr(plain, option.name)


def test_limits_that_are_off_at_zero_may_be_zero() -> None:
    given = {"max_unauthenticated_per_address": 0, "max_connections_per_address": 0, "log_lines": 0}
    settings = Settings(dev=True, **given)
    assert {name: getattr(settings, name) for name in given} == given


def test_the_limits_of_a_user_are_rates() -> None:
    settings = Settings.load({}, {"CHATLAB_DEV": "1", "CHATLAB_USER_FRAME_RATE": "50"})
    assert settings.whole_user_frame_rate == Rate(50.0, 1_000)
    assert settings.whole_user_rate == Rate(20.0, 40)


def test_the_transport_comes_from_the_environment_too() -> None:
    environ = {"CHATLAB_DEV": "1", "CHATLAB_TRANSPORT": "stock"}
    assert Settings.load({}, environ).transport == "stock"
    assert Settings(dev=True).transport == "strict"


def test_the_help_says_what_the_stock_transport_is_for() -> None:
    shown = " ".join(chatlab("serve", "--help").stdout.split())
    assert "--transport strict|stock" in shown
    assert "for comparison only" in shown


def test_every_setting_has_a_help_text() -> None:
    shown = chatlab("serve", "--help").stdout
    for option in options():
        assert option.metadata["help"]
        if option.name != "jwt_secret":
            assert "--" + option.name.replace("_", "-") in shown
    assert "secret" not in [word.lower() for word in shown.split() if word.startswith("--")]


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (["serve"], {"CHATLAB_JWT_SECRET": ""}, "CHATLAB_JWT_SECRET is not set"),
        (["serve", "--port", "x"], {}, "'x' is not a whole number"),
        (["serve", "--no-limits"], {}, "together with --dev"),
        (["serve", "--host", "203.0.113.1", "--dev"], {}, "cannot listen on 203.0.113.1"),
        (["token", "alice", "--ttl", "soon"], {}, "'soon' is not a duration"),
        (["token", "alice"], {"CHATLAB_JWT_SECRET": ""}, "CHATLAB_JWT_SECRET is not set"),
        (["user", "ban", "alice", "--storage", "memory://"], {}, "out of reach"),
        (["user", "ban"], {}, "needs a user's id"),
        (["nonsense"], {}, "invalid choice"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence_and_exit_code_2(
    arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    done = chatlab(*arguments, **environment)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_users_are_added_banned_unbanned_and_listed(tmp_path: Any) -> None:
    storage = ["--storage", f"sqlite:///{tmp_path}/chat.db"]
    assert chatlab("user", "add", "alice", "--name", "Alice", *storage).returncode == 0
    assert chatlab("user", "ban", "mallory", *storage).returncode == 0
    assert chatlab("user", "ban", "alice", *storage).returncode == 0
    assert chatlab("user", "unban", "alice", *storage).returncode == 0
    assert chatlab("user", "list", *storage).stdout == "alice\tAlice\t\nmallory\tmallory\tbanned\n"
    unknown = chatlab("user", "unban", "nobody", *storage)
    assert (unknown.returncode, unknown.stderr) == (2, "chatlab: there is no user 'nobody'\n")


def test_the_load_generator_is_a_command_too() -> None:
    shown = chatlab("bench", "--help").stdout
    assert "--in-flight" in shown
    unknown = chatlab("bench", "nonsense")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "there is no scenario 'nonsense'" in unknown.stderr
