"""A token command as a user would write one: makes good and expired tokens, and nothing else."""

from __future__ import annotations

import os
import sys
import time

import jwt

user, ttl, kind, *rooms = sys.argv[1:]
if kind not in ("good", "expired"):
    sys.exit(f"no token of the kind {kind} here")
claims = {"sub": user, "iat": int(time.time()), "exp": time.time() + float(ttl), "rooms": rooms}
claims |= {"iss": "chatlab", "aud": "chatlab"}
sys.stdout.write(jwt.encode(claims, os.environ["GRADED_SECRET"], algorithm="HS256") + "\n")
