"""What `chatlab grade --control` runs in these tests: passes its words on to the stage's door.

The door (`stage.py`) is in the process that holds the servers; its address is in GRADE_DOOR.
"""

from __future__ import annotations

import json
import os
import socket
import sys


def main(words: list[str]) -> int:
    host, _, port = os.environ["GRADE_DOOR"].partition(":")
    with socket.create_connection((host, int(port)), 30) as door:
        door.sendall(json.dumps(words).encode() + b"\n")
        answer = json.loads(door.makefile().readline())
    sys.stderr.write(answer["said"] + "\n")
    return int(answer["code"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
