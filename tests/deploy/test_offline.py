"""A room without network: what `make bundle` makes is enough for `make lab` and `make demo`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOM = Path(__file__).with_name("room.py")
NOWHERE = "http://127.0.0.1:9"

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the Makefile is for POSIX systems"),
    pytest.mark.skipif(not shutil.which("make"), reason="there is no make here"),
]


def environment(**more: str) -> dict[str, str]:
    """This process's, without what a make above this one handed down."""
    handed_down = ("MAKE", "MFLAGS", "GNUMAKE", "VENV", "PYTHON", "NB", "BUNDLE", "LAB_", "DEMO_")
    handed_down += ("PYTHONPATH", "CHATLAB_CACHE")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(handed_down)}
    return {**kept, **more}


def checkout(target: Path) -> Path:
    """What git would clone, with the changes that are not committed yet."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


def closed_network() -> list[str] | None:
    """What runs a program in a network of loopback alone, where this system has such a thing."""
    for command in (["unshare", "--map-root-user", "--net"], ["unshare", "--net"]):
        if (
            shutil.which("unshare")
            and not subprocess.run([*command, "true"], check=False).returncode
        ):
            return command
    return None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_with_a_bundle_a_fresh_checkout_opens_the_lab_and_the_stage_without_network(
    tmp_path: Path,
) -> None:
    # Such names have sticks.
    bundle = tmp_path / "USB STICK" / "chatlab's bundle"
    subprocess.run(
        [sys.executable, ROOT / "authoring" / "make_bundle.py"],
        env=environment(BUNDLE=str(bundle), PYTHONPATH=str(ROOT)),
        check=True,
    )
    if (source := bundle / "chatlab.gitbundle").exists():
        subprocess.run(["git", "clone", "--quiet", source, tmp_path / "from stick"], check=True)
        lock = tmp_path / "from stick" / "requirements.lock"
        assert lock.read_text() == (ROOT / "requirements.lock").read_text()
    clone = checkout(tmp_path / "clone")
    closed = closed_network()
    told = environment()
    if closed is None:
        told |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NOWHERE)
        told |= {"PIP_INDEX_URL": NOWHERE, "npm_config_registry": NOWHERE}
    room = subprocess.run(
        [*(closed or []), sys.executable, ROOM, clone, bundle, "closed" if closed else "proxy"],
        env=told,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    # Not kept for a look afterwards, as pytest does: it is a gigabyte.
    written = "".join((bundle / name).read_text() for name in ("bundle.json", "README.txt"))
    client = list(clone.glob(".cache/npm/socket.io*"))
    peer = (clone / "bench" / "peer" / "node_modules" / "socket.io" / "package.json").is_file()
    left = list(clone.glob(".venv/.uv-cache*"))
    shutil.rmtree(clone)
    shutil.rmtree(bundle)

    assert room.returncode == 0
    assert "://" not in written
    seen = json.loads(room.stdout)
    assert f"Installing from {bundle}" in seen["lab_log"]
    assert "uv cannot" not in seen["lab_log"]
    assert not left, "what uv unpacked is still there"
    assert "python3" in json.loads(seen["lab"])["kernelspecs"]
    assert "jupyter-config-data" in seen["lesson"]
    assert "<html" in seen["stage"]
    assert "Setting up" not in seen["demo_log"]
    assert client, "the chat page's client is not there"
    assert peer, "the Node server of lesson 08 has no packages"
