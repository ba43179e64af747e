"""What the system knows of a process: the CPU time and the memory that it has used, where it runs.

Linux answers from /proc; elsewhere psutil does, where it is installed.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["allow_many_files", "cpu_seconds", "memory", "pinned", "two_cpus"]

_PROC: Final = Path("/proc")
_LINUX: Final = sys.platform.startswith("linux")


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, all its threads, user and system, in seconds.

    Raises `ProcessLookupError` where there is no such process.
    """
    if _LINUX:
        try:
            # The process's own CPU clock, to the nanosecond; the id is made as the kernel's
            # posix-timers.h says. /proc/PID/stat counts in hundredths of a second only.
            return time.clock_gettime((~pid << 3) | 2)
        except OSError:
            return _from_stat(pid)
    times = _psutil(pid).cpu_times()
    return float(times.user + times.system)


def _from_stat(pid: int) -> float:
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        raise ProcessLookupError(f"there is no process {pid}") from None
    # After the name, which stands in brackets and may hold any character.
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> tuple[float, float]:
    """Memory of a process in MB: what is its own now (PSS, else RSS), and the most it ever had.

    PSS counts a page that several processes share once in all. Raises `ProcessLookupError`.
    """
    folder = _PROC / str(pid)
    if not folder.is_dir():
        if _LINUX:
            raise ProcessLookupError(f"there is no process {pid}")
        told = _psutil(pid).memory_info()
        return told.rss / 1e6, getattr(told, "peak_wset", told.rss) / 1e6
    status = _table(folder / "status")
    try:
        now = _table(folder / "smaps_rollup")["Pss"]
    except (OSError, KeyError):
        now = status["VmRSS"]
    return now / 1000, status["VmHWM"] / 1000


def _table(path: Path) -> dict[str, float]:
    """The lines `Name:  123 kB` of a file, in thousands of bytes."""
    found = {}
    for line in path.read_text().splitlines():
        words = line.split()
        if len(words) == 3 and words[2] == "kB":
            found[words[0].rstrip(":")] = int(words[1]) * 1.024
    return found


def _psutil(pid: int) -> Any:
    try:
        import psutil
    except ImportError:
        raise RuntimeError(
            "measuring another process here needs psutil: pip install psutil"
        ) from None
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        raise ProcessLookupError(f"there is no process {pid}") from None


def two_cpus(servers: int = 1) -> tuple[set[int], set[int]] | None:
    """CPUs for servers, one each where there are so many, and one for the generator.

    None where there are no two, or no choosing. The generator's is another core than theirs, not
    another thread of one, where the machine has them to give.
    """
    if not _LINUX:
        return None
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        return None
    first = allowed[0]
    siblings = _siblings(first)
    others = [cpu for cpu in allowed if cpu not in siblings] or allowed[1:]
    return set(others[:servers]), {first}


def _siblings(cpu: int) -> set[int]:
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        text = path.read_text().strip()
    except OSError:
        return {cpu}
    found: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        found.update(range(int(low), int(high or low) + 1))
    return found


@contextlib.contextmanager
def pinned(pids: Sequence[int], cpus: set[int] | None) -> Iterator[None]:
    """Keep these processes, with all threads, on `cpus` for a while; None leaves them alone."""
    before = {}
    if cpus is not None and _LINUX:
        for thread in _threads(pids):
            with contextlib.suppress(OSError):
                before[thread] = os.sched_getaffinity(thread)
                os.sched_setaffinity(thread, cpus)
    try:
        yield
    finally:
        for thread in _threads(pids) if before else ():
            # A thread that was born meanwhile goes where its process may go.
            usual = before.get(thread) or set().union(*before.values())
            with contextlib.suppress(OSError):
                os.sched_setaffinity(thread, usual)


def _threads(pids: Sequence[int]) -> list[int]:
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            found += [int(task.name) for task in (_PROC / str(pid) / "task").iterdir()]
    return found


def allow_many_files() -> int:
    """Raise this process's limit of open files as far as it may; returns it (0: no such limit)."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return soft
