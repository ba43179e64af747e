"""The load generator's own process: reads one job from stdin, writes its rows to stdout, as JSON.

`load.py` starts it by path. It ends when its stdin does, so that it never outlives the notebook.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
import types
from pathlib import Path
from typing import Any

__all__ = ["main"]


def main() -> int:
    """Do the job; returns 0 also when it failed, since the answer says why."""
    line = sys.stdin.buffer.readline()
    if not line:
        return 1
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    _without_the_rest_of_the_lab()
    from chatlab.lab import load_system
    from chatlab.lab.load_counts import LoadError
    from chatlab.lab.load_job import Job
    from chatlab.lab.load_scenes import SCENES

    # A collection in the middle would be told as the server's latency, and this ends soon.
    gc.disable()
    told = json.loads(line)
    cpus = told.pop("cpus")
    if cpus:
        os.sched_setaffinity(0, cpus)  # type: ignore[attr-defined,unused-ignore]
    files = load_system.allow_many_files()
    wanted = told["settings"].get("files", 0)
    answer: dict[str, Any]
    try:
        if files and wanted > files:
            raise LoadError(
                f"{wanted:,} open files are needed and this system allows {files:,}: "
                f"`ulimit -n {wanted}` in the shell that starts this, or fewer connections"
            )
        job = Job(**told)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            rows = runner.run(_guarded(SCENES[job.scenario], job))
        answer = {"rows": [row.as_dict() for row in rows]}
    except LoadError as error:
        answer = {"error": str(error)}
    except ProcessLookupError as error:
        answer = {"error": f"the server's process ended: {error}"}
    except OSError as error:
        answer = {"error": f"the server's process cannot be measured: {error}"}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    return 0


async def _guarded(scene: Any, job: Any) -> Any:
    # What arrives while a run is being given up has nobody to be told.
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    return await scene(job)


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:  # optional, and not made for Windows
        return None
    return uvloop.new_event_loop


def _without_the_rest_of_the_lab() -> None:
    """Make `chatlab.lab.load_…` importable without running what `import chatlab.lab` runs.

    That takes most of a second, for modules of which none is needed here.
    """
    folder = Path(__file__).resolve().parent
    for name, place in (("chatlab", folder.parent), ("chatlab.lab", folder)):
        package = types.ModuleType(name)
        package.__path__ = [str(place)]
        sys.modules[name] = package


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(3)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # The thread above sits in a read that never ends: leave without waiting for it.
    os._exit(code)
