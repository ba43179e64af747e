"""Installs what environment.yml gives to conda and Binder once into an empty environment.

`make environment` runs it; it takes a minute and is no part of `make test`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (from_pip,) = [each["pip"] for each in environment["dependencies"] if isinstance(each, dict)]
    words = [word for line in from_pip for word in line.split()]
    with tempfile.TemporaryDirectory(prefix="chatlab-environment-") as folder:
        venv.create(folder, with_pip=True)
        scripts = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin")
        began = time.monotonic()
        subprocess.run(
            [scripts / "python", "-m", "pip", "install", "--quiet", *words], cwd=ROOT, check=True
        )
        say(f"✓ pip install {' '.join(words)}: {time.monotonic() - began:.0f} s")
        for command in (
            [scripts / "python", "-m", "pip", "check"],
            [scripts / "chatlab", "doctor"],
            [scripts / "jupyter", "kernelspec", "list"],
        ):
            subprocess.run(command, cwd=folder, check=True)
    return 0


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
