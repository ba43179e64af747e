"""Runs what compose.yaml describes, without containers: the same command lines, on loopback.

What a network of containers would give is put in by hand, and nothing else is changed: addresses
and ports, the folder of a volume, the path of a secret.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chatlab.lab import process
from chatlab.lab.balancer import find_balancer
from chatlab.lab.ports import free_port
from chatlab.lab.process import Process
from chatlab.lab.valkey import find_valkey
from tests.deploy.files import ROOT, caddy_json, compose, containerfile, environment, every, only
from tests.deploy.names import Names
from tests.waiting import wait_until

SECRET = "of-a-deployment-" * 4
INSTALLED = "/opt/chatlab"
ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


def install(folder: Path) -> Path:
    """Build the image's first stage in `folder`, and return what would be /opt/chatlab."""
    first = containerfile()[0]
    source, made = folder / "src", folder / "opt-chatlab"
    source.mkdir()
    for step in first:
        if step.word == "COPY":
            *names, target = shlex.split(step.text)
            for name in names:
                copy(ROOT / name, source / target / name if target == "./" else source / target)
    command = only(first, "RUN").text.replace(INSTALLED, str(made))
    here = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    outside = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CHATLAB_CACHE")}
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=source,
        env={**outside, "PATH": here},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    shutil.rmtree(source)
    return made


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copyfile(source, target)


def in_image(made: Path) -> dict[str, str]:
    """The image's environment, where `made` is its /opt/chatlab."""
    variables = environment(containerfile()[-1])
    variables = {name: value.replace(INSTALLED, str(made)) for name, value in variables.items()}
    variables["PATH"] = variables["PATH"].replace("$PATH", os.environ["PATH"])
    # The package of this checkout must not be found before the one that was installed.
    return {**variables, "PYTHONPATH": ""}


def read_only() -> list[str]:
    """What runs a program on a file system that it cannot write to, where there is such a thing."""
    inside = 'mount -o remount,bind,ro / && exec "$@"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", inside, "sh"]
    if shutil.which("unshare") is None:
        return []
    return (
        []
        if subprocess.run([*command, "true"], check=False, capture_output=True).returncode
        else command
    )


@dataclass
class Stack:
    """Valkey, servers and Caddy. `server(n)` starts replica n; `url` is where people come in."""

    folder: Path
    installed: Path
    names: Names
    plan: dict[str, Any] = field(default_factory=compose)
    parts: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.port = port_of_all(ADDRESSES)
        self.https, self.http, self.admin = free_port(), free_port(), free_port()
        self.url = f"https://localhost:{self.https}"
        self.secret = self.folder / "jwt_secret"
        self.secret.write_text(SECRET + "\n")
        self.prefix = read_only()
        self.store = free_port()

    def service(self, name: str) -> dict[str, Any]:
        return dict(self.plan["services"][name])

    def valkey(self) -> Process:
        _, *options = self.service("valkey")["command"]
        data = self.folder / "valkey"
        data.mkdir(exist_ok=True)
        here = ["--bind", "127.0.0.1", "--port", str(self.store), "--dir", str(data)]
        return self._start(
            "store", [find_valkey(), *options, *here], r"Ready to accept connections"
        )

    def server(self, number: int) -> Process:
        image = containerfile()[-1]
        command = [*only(image, "ENTRYPOINT").listed, *self.service("chat")["command"]]
        command[0] = str(self.installed / "bin" / command[0])
        variables = {**in_image(self.installed), **self.service("chat")["environment"]}
        store = variables["CHATLAB_STORAGE"].replace("valkey:6379", f"127.0.0.1:{self.store}")
        variables |= {
            "CHATLAB_STORAGE": store,
            "CHATLAB_TRUSTED_PROXY": "127.0.0.0/8",
            "CHATLAB_JWT_SECRET_FILE": str(self.secret),
            "CHATLAB_HOST": ADDRESSES[number],
            "CHATLAB_PORT": str(self.port),
        }
        return self._start(f"chat-{number}", [*self.prefix, *command], None, variables)

    def caddy(self) -> Process:
        program = find_balancer("caddy")
        config = caddy_json(program, "localhost")
        web = config["apps"]["http"]
        web["https_port"], web["http_port"] = self.https, self.http
        (server,) = web["servers"].values()
        assert server["listen"] == [":443"]
        server["listen"] = [f":{self.https}"]
        for source in every(config, "dynamic_upstreams"):
            assert source["port"] == environment(containerfile()[-1])["CHATLAB_PORT"]
            source["port"] = str(self.port)
            source["resolver"] = {"addresses": [self.names.address]}
        config["admin"] = {"listen": f"127.0.0.1:{self.admin}", "config": {"persist": False}}
        file = self.folder / "caddy.json"
        file.write_text(json.dumps(config))
        homes = {"XDG_DATA_HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}
        command = [program, "run", "--config", str(file)]
        started = self._start("front", command, r"certificate obtained successfully", homes)
        # Said a moment before it can be shown.
        wait_until(self._shows_certificate, what="the certificate", timeout=20)
        return started

    def _shows_certificate(self) -> bool:
        trusted = ssl.create_default_context(cafile=self.authority)
        try:
            with (
                socket.create_connection(("localhost", self.https), timeout=5) as plain,
                trusted.wrap_socket(plain, server_hostname="localhost"),
            ):
                return True
        except OSError:
            return False

    @property
    def authority(self) -> Path:
        return self.folder / "caddy" / "pki" / "authorities" / "local" / "root.crt"

    def _start(
        self, name: str, command: list[str], ready: str | None, env: dict[str, str] | None = None
    ) -> Process:
        options = {} if ready is None else {"ready": ready}
        part = process(name=f"deploy-{name}", command=command, env=env, **options)  # type: ignore[arg-type]
        self.parts.append(part)
        return part


@contextlib.contextmanager
def stack(folder: Path, installed: Path) -> Iterator[Stack]:
    with Names([]) as names:
        whole = Stack(folder, installed, names)
        try:
            yield whole
        finally:
            for part in reversed(whole.parts):
                part.stop()


def port_of_all(addresses: tuple[str, ...]) -> int:
    """A port that is free at each of the addresses."""
    while True:
        port = free_port()
        try:
            for address in addresses:
                with socket.socket() as attempt:
                    attempt.bind((address, port))
        except OSError:
            continue
        return port
