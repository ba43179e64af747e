"""Installs packages with uv, which takes seconds, or with pip, which takes a minute or two.

Both install the same: the versions are those of the lock. uv does not read what pip is told by its
files and its environment (an index of one's own, say), so it is told here; what it has no word for
leaves everything to pip, and so does whatever goes wrong with uv.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

LOCK = "requirements.lock"
OF_NO_IMPORT = frozenset(
    {
        "config-file",
        "default-timeout",
        "disable-pip-version-check",
        "no-color",
        "no-input",
        "no-python-version-warning",
        "no-warn-script-location",
        "progress-bar",
        "quiet",
        "require-virtualenv",
        "retries",
        "root-user-action",
        "timeout",
        "verbose",
    }
)
"""Settings of pip that change nothing of what is installed, or from where."""


def install(
    wanted: Sequence[str], *, root: Path, wheels: Path | None = None, python: str = sys.executable
) -> int:
    """Install `wanted`, arguments as of `pip install`, into the environment of `python`.

    `root` is the folder that has the lock, and from which relative paths are read. From `wheels`
    alone, a folder, where it is given, whatever this machine's pip was told otherwise. Returns the
    exit code of what installed; both programs say themselves what went wrong.
    """
    pip = Pip(python, root, wheels)
    why = with_uv(pip, wanted)
    if why is None:
        return 0
    if why:
        say(f"○ uv cannot install this ({why}). pip does it, which takes a minute or two ...")
    return pip.install(wanted).returncode


class Pip:
    """An environment's pip; with `wheels` it knows of nothing but that folder."""

    def __init__(self, python: str, root: Path, wheels: Path | None) -> None:
        self.python, self.root, self.wheels = python, root, wheels
        self.environment = dict(os.environ)
        if wheels:
            self.environment = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
            self.environment["PIP_CONFIG_FILE"] = os.devnull

    def install(
        self, wanted: Sequence[str], *, aloud: bool = True
    ) -> subprocess.CompletedProcess[str]:
        options = ["--quiet", "--disable-pip-version-check"]
        if self.wheels:
            options += ["--no-index", "--find-links", str(self.wheels)]
        if not aloud:
            options += ["--retries", "1"]  # pip asks again by itself, if it comes to that
        return self._run("install", *options, *wanted, aloud=aloud)

    def settings(self) -> dict[str, str]:
        """What its files and its environment tell `pip install`, the stronger last."""
        told: dict[str, dict[str, str]] = {}
        for line in self._run("config", "list", aloud=False).stdout.splitlines():
            name, _, value = line.partition("=")
            section, _, name = name.rpartition(".")
            told.setdefault(section, {})[name] = str(ast.literal_eval(value))
        return {**told.get("global", {}), **told.get("install", {}), **told.get(":env:", {})}

    def _run(self, *words: str, aloud: bool) -> subprocess.CompletedProcess[str]:
        command = [self.python, "-m", "pip", *words]
        return subprocess.run(
            command,
            cwd=self.root,
            env=self.environment,
            capture_output=not aloud,
            text=True,
            check=False,
        )


def with_uv(pip: Pip, wanted: Sequence[str]) -> str | None:
    """Install by uv. None where that went well, else why it did not ("": there is none here)."""
    try:
        options, told = words_for_uv({} if pip.wheels else pip.settings())
    except (ValueError, SyntaxError) as why:
        return str(why)
    if not (uv := locked_uv(pip.root)) or pip.install([uv], aloud=False).returncode:
        return ""
    scratch = None
    if pip.wheels:
        # In the environment, so that files are linked, not copied, and taken away afterwards: what
        # comes from a stick is not kept twice.
        scratch = Path(pip.python).parent.parent / ".uv-cache"
        options += ["--no-config", "--offline", "--no-index", "--find-links", str(pip.wheels)]
        options += ["--cache-dir", str(scratch)]
    try:
        done = subprocess.run(
            [pip.python, "-m", "uv", "pip", "install", "--quiet", "--python", pip.python]
            + [*options, *wanted],
            cwd=pip.root,
            env={**pip.environment, **told},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)
    if done.returncode:
        return " ".join(done.stderr.split())[:300] or f"exit code {done.returncode}"
    return None


def words_for_uv(settings: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """uv's options and environment that say what these settings of pip say.

    Raises `ValueError`, which names it, for a setting that uv is not told here.
    """
    # As pip does; uv by itself leaves that to the first import, and takes a package from the first
    # index that has it in any version.
    options = ["--compile-bytecode", "--index-strategy", "unsafe-best-match"]
    told: dict[str, str] = {}
    for name, value in settings.items():
        match name:
            case "index-url":
                told["UV_DEFAULT_INDEX"] = value
            case "extra-index-url":
                told["UV_INDEX"] = " ".join(value.split())
            case "find-links":
                options += [f"--find-links={each}" for each in value.split()]
            case "trusted-host":
                options += [f"--allow-insecure-host={each}" for each in value.split()]
            case "no-index":
                if truth(value):
                    options.append("--no-index")
            case "cert":
                told["SSL_CERT_FILE"] = value
            case "proxy":
                told |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), value)
            case _ if name not in OF_NO_IMPORT:
                raise ValueError(f"pip's setting {name} is not one that it takes")
    return options, told


def truth(value: str) -> bool:
    return value.strip().lower() in {"1", "true", "yes", "y", "on", "t"}


def locked_uv(root: Path) -> str | None:
    """The lock's line for uv."""
    lines = (root / LOCK).read_text(encoding="utf-8").splitlines()
    return next((line for line in lines if line.startswith("uv==")), None)


def say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
