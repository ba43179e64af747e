"""What only the workshop needs: servers in the background, faults, drawings and checks."""

from __future__ import annotations

from chatlab.lab.background import Server, background
from chatlab.lab.balancer import Balancer, balancer
from chatlab.lab.checks import advice, check, expect, written
from chatlab.lab.clients import RawClient, Refused, raw_client
from chatlab.lab.cluster import Cluster
from chatlab.lab.inbox import Received
from chatlab.lab.nested import allow_nested_loops
from chatlab.lab.pair import Pair, pair
from chatlab.lab.process import Process, process
from chatlab.lab.progress import progress
from chatlab.lab.proxy import Proxy
from chatlab.lab.recorder import Entry, Recorder
from chatlab.lab.redis_line import RedisLine
from chatlab.lab.timeline import Timeline, settled, timeline
from chatlab.lab.valkey import ExternalValkey, Valkey, valkey
from chatlab.lab.verdict import Verdict, verdict

__all__ = [
    "Balancer",
    "Cluster",
    "Entry",
    "ExternalValkey",
    "Pair",
    "Process",
    "Proxy",
    "RawClient",
    "Received",
    "Recorder",
    "RedisLine",
    "Refused",
    "Server",
    "Timeline",
    "Valkey",
    "Verdict",
    "advice",
    "allow_nested_loops",
    "background",
    "balancer",
    "check",
    "expect",
    "pair",
    "process",
    "progress",
    "raw_client",
    "settled",
    "timeline",
    "valkey",
    "verdict",
    "written",
]
