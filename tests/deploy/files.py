"""Reads Containerfile, compose.yaml and deploy/Caddyfile, so that tests run what stands there.

It reads only as much of each form as these files use; no container engine is needed for it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CADDYFILE = ROOT / "deploy" / "Caddyfile"


@dataclass(frozen=True)
class Step:
    """One instruction of a Containerfile: `RUN`, and all that is after it on one line."""

    word: str
    text: str

    @property
    def listed(self) -> list[str]:
        """The words of the exec form. Raises where this is the shell form."""
        words = json.loads(self.text)
        assert isinstance(words, list)
        return words


def containerfile() -> list[list[Step]]:
    """The instructions of each stage, in order."""
    text = "\n".join(
        line
        for line in (ROOT / "Containerfile").read_text().splitlines()
        if not line.lstrip().startswith("#")
    )
    stages: list[list[Step]] = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            if word == "FROM":
                stages.append([])
            if stages:
                stages[-1].append(Step(word, rest.strip()))
    return stages


def only(stage: list[Step], word: str) -> Step:
    (found,) = [step for step in stage if step.word == word]
    return found


def environment(stage: list[Step]) -> dict[str, str]:
    pairs = (shlex.split(step.text) for step in stage if step.word == "ENV")
    return dict(pair.split("=", 1) for line in pairs for pair in line)


def compose(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """compose.yaml with its variables filled in, each by its default unless it is given."""
    given = variables or {}

    def fill(match: re.Match[str]) -> str:
        return given.get(match["name"]) or match["default"]

    text = (ROOT / "compose.yaml").read_text()
    filled = re.sub(r"\$\{(?P<name>\w+):-(?P<default>[^}]*)\}", fill, text)
    loaded = yaml.safe_load(filled)
    assert isinstance(loaded, dict)
    return loaded


def caddy_json(program: str, site: str) -> dict[str, Any]:
    """What Caddy itself makes of deploy/Caddyfile for a site's name."""
    adapted = subprocess.run(
        [program, "adapt", "--adapter", "caddyfile", "--config", str(CADDYFILE)],
        env={**os.environ, "CHATLAB_SITE": site},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(adapted.stdout)
    assert isinstance(found, dict)
    return found


def every(tree: Any, key: str) -> list[Any]:
    """Each value that stands under `key` anywhere in a JSON tree."""
    if isinstance(tree, dict):
        return [
            *([tree[key]] if key in tree else []),
            *(found for value in tree.values() for found in every(value, key)),
        ]
    if isinstance(tree, list):
        return [found for value in tree for found in every(value, key)]
    return []
