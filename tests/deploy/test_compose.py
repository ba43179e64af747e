"""compose.yaml and deploy/Caddyfile: their forms, and what a deployment must not get wrong."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chatlab.cli import _parser
from chatlab.lab.balancer import find_balancer
from chatlab.settings import Settings
from tests.deploy.files import (
    CADDYFILE,
    ROOT,
    caddy_json,
    compose,
    containerfile,
    environment,
    every,
    only,
)

CI = os.environ.get("CI", "").lower() in {"1", "true"}
SCHEMA = ["--builtin-schema=vendor.compose-spec"]
PLAN = compose()
SERVICES: dict[str, Any] = PLAN["services"]


def test_it_is_what_the_compose_specification_asks_for() -> None:
    if importlib.util.find_spec("check_jsonschema") is None and not CI:
        pytest.skip("no check-jsonschema here, which has the specification's schema")
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *SCHEMA, ROOT / "compose.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_only_caddy_is_reached_from_outside() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["caddy"]
    inside = {name for name, network in PLAN["networks"].items() if network.get("internal")}
    assert inside == {"edge", "store"}
    assert set(SERVICES["chat"]["networks"]) <= inside
    assert set(SERVICES["valkey"]["networks"]) == {"store"}
    assert "store" not in SERVICES["caddy"]["networks"]


@pytest.mark.parametrize("name", SERVICES)
def test_each_part_may_do_no_more_than_it_has_to(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert {"cpus", "memory", "pids"} == set(service["deploy"]["resources"]["limits"])
    assert "max-size" in service["logging"]["options"]
    assert "privileged" not in service


def test_every_image_but_our_own_has_a_version() -> None:
    for name, service in SERVICES.items():
        assert name == "chat" or service["image"].rpartition(":")[2][0].isdigit()


def test_the_secret_is_a_file_that_git_and_the_image_do_not_see() -> None:
    chat = SERVICES["chat"]
    (name,) = chat["secrets"]
    assert chat["environment"]["CHATLAB_JWT_SECRET_FILE"] == f"/run/secrets/{name}"
    assert "CHATLAB_JWT_SECRET" not in chat["environment"]
    file = PLAN["secrets"][name]["file"]
    ignored = subprocess.run(["git", "check-ignore", "-q", file], cwd=ROOT, check=False)
    assert ignored.returncode == 0


def settings(tmp_path: Path) -> Settings:
    """What a server of compose.yaml makes of its command and its environment."""
    (tmp_path / "secret").write_text("s" * 64)
    given = vars(_parser().parse_args(SERVICES["chat"]["command"]))
    outside = {
        **environment(containerfile()[-1]),
        **SERVICES["chat"]["environment"],
        "CHATLAB_JWT_SECRET_FILE": str(tmp_path / "secret"),
    }
    return Settings.load({k: v for k, v in given.items() if k != "run"}, outside)


def test_the_servers_command_is_one_that_they_take(tmp_path: Path) -> None:
    chat = settings(tmp_path)
    assert chat.storage == "redis://valkey:6379/0"
    assert chat.page
    assert not chat.dev
    assert not chat.metrics_public


def test_the_servers_believe_the_network_of_caddy_and_no_other(tmp_path: Path) -> None:
    (trusted,) = settings(tmp_path).trusted_proxy
    assert trusted == PLAN["networks"]["edge"]["ipam"]["config"][0]["subnet"]
    assert ipaddress.ip_network(trusted).is_private


def seconds(text: str) -> float:
    return float(text.rstrip("sm")) * (60 if text.endswith("m") else 1)


def test_the_engine_waits_longer_than_a_server_may_take_to_stop(tmp_path: Path) -> None:
    chat = settings(tmp_path)
    assert seconds(SERVICES["chat"]["stop_grace_period"]) > chat.drain + chat.shutdown_grace + 2


def test_valkey_loses_nothing_that_was_acked_and_forgets_nothing_for_want_of_room() -> None:
    _, *options = SERVICES["valkey"]["command"]
    pairs = dict(zip(options[::2], options[1::2], strict=True))
    assert pairs["--appendonly"] == "yes"
    assert pairs["--appendfsync"] == "always"
    assert pairs["--maxmemory-policy"] == "noeviction"
    most = int(pairs["--maxmemory"].removesuffix("mb"))
    limit = SERVICES["valkey"]["deploy"]["resources"]["limits"]["memory"]
    assert most * 2 <= int(limit.removesuffix("g")) * 1024, "room for what rewrites its file"
    assert SERVICES["valkey"]["volumes"] == ["valkey:/data"]


def test_caddy_runs_the_caddyfile_of_this_repository() -> None:
    command = SERVICES["caddy"]["command"]
    mounted = [volume.split(":") for volume in SERVICES["caddy"]["volumes"]]
    (inside,) = [to for source, to, *_ in mounted if source == "./deploy/Caddyfile"]
    assert command == ["caddy", "run", "--adapter", "caddyfile", "--config", inside]
    assert CADDYFILE == ROOT / "deploy" / "Caddyfile"


@pytest.mark.parametrize("site", ["localhost", "chat.example.org", "chat.example.org, localhost"])
def test_caddy_itself_accepts_the_caddyfile_for_such_a_site(site: str, tmp_path: Path) -> None:
    program = find_balancer("caddy")
    homes = {"XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    for command in ("validate", "fmt"):
        words = [program, command, "--adapter", "caddyfile", "--config", str(CADDYFILE)]
        if command == "fmt":
            words = [program, "fmt", "--diff", str(CADDYFILE)]
        checked = subprocess.run(
            words,
            env={**os.environ, **homes, "CHATLAB_SITE": site},
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stderr
    hosts = every(caddy_json(program, site), "host")
    assert sorted(host for found in hosts for host in found) == sorted(site.split(", "))


def test_caddy_finds_the_replicas_by_the_services_name_and_the_images_port() -> None:
    config = caddy_json(find_balancer("caddy"), "localhost")
    (source,) = every(config, "dynamic_upstreams")
    assert source["name"] in SERVICES
    assert source["port"] == only(containerfile()[-1], "EXPOSE").text
