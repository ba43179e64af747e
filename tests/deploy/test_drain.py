"""A balancer that asks /healthz sends nobody to a server that drains, which serves on meanwhile."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

from chatlab.lab import process
from chatlab.lab.balancer import balancer

IN_A_ROW = 20
PATIENCE_S = 20


def health(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=5) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        return dict(json.load(error))


def test_while_a_server_drains_new_clients_come_to_the_others() -> None:
    with (
        process("--drain=60", name="deploy-leaving") as leaving,
        process(name="deploy-staying") as staying,
        balancer(leaving, staying, name="deploy-balancer", sticky=False) as front,
    ):
        stays = health(staying.url)["server"]
        leaving.terminate()
        until, met = time.monotonic() + PATIENCE_S, 0
        while met < IN_A_ROW and time.monotonic() < until:
            met = met + 1 if health(front.url).get("server") == stays else 0
        assert met == IN_A_ROW
        assert leaving.running
        assert health(leaving.url)["ok"] is False
