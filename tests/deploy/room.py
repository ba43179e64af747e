"""Plays a room without network: a fresh checkout, a bundle, `make lab`, `make demo`.

test_bundle.py runs it as a program of its own, in a network of nothing but loopback where the
system can make one; it says what it saw as one line of JSON.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

SIOCSIFFLAGS, IFF_UP_AND_RUNNING = 0x8914, 0x41
# Addresses that are the same everywhere: with a network one of them is reached.
OUTSIDE = (("1.1.1.1", 443), ("8.8.8.8", 53), ("2606:4700:4700::1111", 443))
PATIENCE_S = 400


def main() -> int:
    clone, bundle, closed = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "closed"
    if closed:
        loopback_up()
        for host, port in OUTSIDE:
            if reaches(host, port):
                raise SystemExit(f"this network is not closed: {host} was reached")
    port = free_port()
    seen: dict[str, object] = {}
    lab_args = f"--no-browser --port={port} --ServerApp.port_retries=0 --IdentityProvider.token=t"
    lab = start(clone, "lab", f"BUNDLE={bundle}", f"LAB_ARGS={lab_args}")
    try:
        # The kernel's name is what a lesson needs of it.
        seen["lab"] = answer(lab, lambda: f"http://127.0.0.1:{port}/api/kernelspecs?token=t")
        seen["lesson"] = answer(
            lab,
            lambda: f"http://127.0.0.1:{port}/lab/tree/work/notebooks/00_start_here.ipynb?token=t",
        )
    finally:
        seen["lab_log"] = stop(lab)
    # What was set up is there: no bundle is named any more.
    demo = start(clone, "demo", "DEMO_ARGS=--no-browser")
    try:
        seen["stage"] = answer(demo, lambda: first_match(demo, r"stage on (http://\S+?)/?#"))
    finally:
        seen["demo_log"] = stop(demo)
    print(json.dumps(seen))
    return 0


def start(clone: Path, *arguments: str) -> subprocess.Popen[str]:
    log = clone.parent / f"{arguments[0]}.log"
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            ["make", "--no-print-directory", f"PYTHON={sys.executable}", *arguments],
            cwd=clone,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    process.log = log  # type: ignore[attr-defined]
    return process


def stop(process: subprocess.Popen[str]) -> str:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return text_of(process)


def text_of(process: subprocess.Popen[str]) -> str:
    log: Path = process.log  # type: ignore[attr-defined]
    return log.read_text(encoding="utf-8", errors="replace")


def first_match(process: subprocess.Popen[str], pattern: str) -> str | None:
    found = re.search(pattern, text_of(process))
    return found[1] if found else None


def answer(process: subprocess.Popen[str], where: Callable[[], str | None]) -> str:
    """What is served there, as soon as something is."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + PATIENCE_S
    last: object = "nobody said where"
    while time.monotonic() < until and process.poll() is None:
        if address := where():
            try:
                with opener.open(address, timeout=5) as response:
                    return str(response.read().decode("utf-8", "replace"))
            except OSError as error:
                last = error
        time.sleep(0.1)
    raise SystemExit(f"no answer ({last}); what was said:\n{text_of(process)}")


def loopback_up() -> None:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        fcntl.ioctl(asking, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP_AND_RUNNING))


def reaches(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
