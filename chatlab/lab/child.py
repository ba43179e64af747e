"""Runs a command and kills it when its own stdin ends: `python -m chatlab.lab.child -- command …`.

The lab keeps the other end of that stdin. When the notebook's kernel dies, even by SIGKILL, the
system closes it, and the command dies too. It is not a supervisor: it restarts nothing.
"""

# Only the standard library, and little of it: this is started for every child process.
import os
import subprocess
import sys
import threading

__all__ = ["main"]

ANNOUNCEMENT = "chatlab.lab.child runs "


def main(arguments: list[str]) -> int:
    """Run the command after `--`; returns its exit code (on POSIX minus the signal's number)."""
    command = arguments[arguments.index("--") + 1 :]
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        sys.stdout.write(f"cannot run {command[0]}: {error}\n")
        return 127
    sys.stdout.write(f"{ANNOUNCEMENT}{child.pid}\n")
    sys.stdout.flush()
    threading.Thread(target=_kill_at_end_of_stdin, args=(child,), daemon=True).start()
    return child.wait()


def _kill_at_end_of_stdin(child: "subprocess.Popen[bytes]") -> None:
    while os.read(0, 4096):
        pass
    # SIGKILL also ends a child that is stopped (SIGSTOP) or that ignores everything else.
    child.kill()


if __name__ == "__main__":
    code = main(sys.argv)
    # The thread above may sit in a read that never ends: leave without waiting for it.
    sys.stdout.flush()
    # A signal's number, negative here, does not fit an exit status: 128 + n, as shells have it.
    os._exit(code if code >= 0 else 128 - code)
