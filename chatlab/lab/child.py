"""Runs a command and kills it when its own stdin ends: `python -m chatlab.lab.child -- command …`.

The lab keeps the other end of that stdin. When the notebook's kernel dies, even by SIGKILL, the
system closes it, and the command dies too. With `--remove FOLDER` before the `--`, the command's
files then go with it. It is not a supervisor: it restarts nothing.
"""

# Only the standard library, and little of it: this is started for every child process.
import os
import subprocess
import sys
import threading

__all__ = ["main"]

ANNOUNCEMENT = "chatlab.lab.child runs "
# What the lab writes into that stdin before it closes it itself: it may need the files again.
KEEP = b"keep"


def main(arguments: list[str]) -> int:
    """Run the command after `--`; returns its exit code (on POSIX minus the signal's number)."""
    dashes = arguments.index("--")
    options, command = arguments[:dashes], arguments[dashes + 1 :]
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        sys.stdout.write(f"cannot run {command[0]}: {error}\n")
        return 127
    sys.stdout.write(f"{ANNOUNCEMENT}{child.pid}\n")
    sys.stdout.flush()
    abandoned = threading.Event()
    threading.Thread(target=_kill_at_end_of_stdin, args=(child, abandoned), daemon=True).start()
    code = child.wait()
    if abandoned.is_set() and "--remove" in options:
        import shutil  # slow to import, and hardly ever needed

        shutil.rmtree(options[options.index("--remove") + 1], ignore_errors=True)
    return code


def _kill_at_end_of_stdin(child: "subprocess.Popen[bytes]", abandoned: threading.Event) -> None:
    said = b""
    while part := os.read(0, 4096):
        said += part
    if said != KEEP:
        abandoned.set()
    # SIGKILL also ends a child that is stopped (SIGSTOP) or that ignores everything else.
    child.kill()


if __name__ == "__main__":
    code = main(sys.argv)
    # The thread above may sit in a read that never ends: leave without waiting for it.
    sys.stdout.flush()
    # A signal's number, negative here, does not fit an exit status: 128 + n, as shells have it.
    os._exit(code if code >= 0 else 128 - code)
