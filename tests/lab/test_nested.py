"""A pasted script that calls `asyncio.run` works, and Run All still runs every cell."""

import contextlib
import subprocess
import sys
import textwrap
from queue import Empty

import pytest
from jupyter_client.manager import KernelManager

from chatlab.lab import nested

BLOCKING_SCRIPT = """
import asyncio, time
async def main():
    await asyncio.sleep(1.2)
    return "done"
print(asyncio.run(main()))
"""


def run(script):
    """Run a script in a plain Python that treats warnings as errors; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def queue_all(cells, patience=20):
    """Run cells as Run All does, all queued at once; returns (status, text) of each.

    The status of a cell that is not answered, with nothing answered for `patience` seconds, is "".
    """
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.blocking_client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=60)
        sent = [client.execute(source, stop_on_error=False) for source in cells]
        replies, texts = dict.fromkeys(sent, ""), dict.fromkeys(sent, "")
        with contextlib.suppress(Empty):
            while not all(replies.values()):
                message = client.get_shell_msg(timeout=patience)
                replies[message["parent_header"]["msg_id"]] = message["content"]["status"]
        idle = set()
        while not all(each in idle for each in sent if replies[each]):
            message = client.get_iopub_msg(timeout=10)
            parent, content = message["parent_header"].get("msg_id"), message["content"]
            if message["msg_type"] == "status" and content["execution_state"] == "idle":
                idle.add(parent)
            elif message["msg_type"] == "stream" and parent in texts:
                texts[parent] += content["text"]
            elif message["msg_type"] == "error" and parent in texts:
                texts[parent] += f"{content['ename']}: {content['evalue']}"
        return [(replies[each], texts[each].strip()) for each in sent]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def test_asyncio_run_works_inside_a_running_loop_of_plain_python():
    shown = run(
        """
        import asyncio
        from chatlab.lab import allow_nested_loops
        async def inner():
            await asyncio.sleep(0.01)
            return "inner ran"
        async def outer():
            print(allow_nested_loops())
            print(asyncio.run(inner()))
            print(asyncio.get_running_loop().run_until_complete(inner()))
            await asyncio.sleep(0)
            print(allow_nested_loops())
        asyncio.run(outer())
        """
    )
    assert shown == [
        "✓ asyncio.run works inside a running loop (nest_asyncio: this is plain Python)",
        "inner ran",
        "inner ran",
        "✓ asyncio.run works inside a running loop (nest_asyncio: this is plain Python)",
    ]


def test_it_may_be_called_before_any_loop_runs():
    shown = run(
        """
        import asyncio
        from chatlab.lab import allow_nested_loops
        allow_nested_loops()
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        async def inner():
            return "inner ran"
        async def outer():
            return asyncio.run(inner())
        print(loop.run_until_complete(outer()))
        loop.close()
        """
    )
    assert shown == ["inner ran"]


def test_servers_clients_and_wires_work_after_it():
    shown = run(
        """
        import asyncio, socketio
        from chatlab.lab import Proxy, allow_nested_loops, background, raw_client
        sio = socketio.AsyncServer(async_mode="aiohttp")
        @sio.on("echo")
        async def echo(sid, data):
            return data
        async def script(server):
            async with Proxy(server) as wire, raw_client(wire) as client:
                return await client.call("echo", "heard", timeout=5)
        async def cell():
            allow_nested_loops()
            async with background(sio) as server:
                print(asyncio.run(script(server)))
        asyncio.run(cell())
        """
    )
    assert shown == ["heard"]


def test_an_older_kernel_gets_nest_asyncio(monkeypatch):
    applied = []
    monkeypatch.setattr(nested, "_kernel_version", lambda: 6)
    monkeypatch.setattr(nested, "_applied", lambda: None)
    monkeypatch.setattr(nested, "_apply", lambda module, _loop: applied.append(module.__name__))
    assert "nest_asyncio: this is ipykernel 6" in repr(nested.allow_nested_loops())
    monkeypatch.setattr(nested, "_kernel_version", lambda: 7)
    assert "nest_asyncio2: this is ipykernel 7" in repr(nested.allow_nested_loops())
    assert applied == ["nest_asyncio", "nest_asyncio2"]


def test_a_loop_that_cannot_be_nested_is_named():
    uvloop = pytest.importorskip("uvloop")
    shown = run(
        f"""
        import asyncio, {uvloop.__name__} as uvloop
        from chatlab.lab import allow_nested_loops
        async def main():
            try:
                allow_nested_loops()
            except RuntimeError as error:
                print(error)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
        """
    )
    assert "the event loop that runs here (uvloop" in shown[0]


def test_run_all_runs_every_cell_after_one_that_blocks():
    answers = queue_all(
        [
            "from chatlab.lab import allow_nested_loops\nprint(allow_nested_loops())",
            BLOCKING_SCRIPT,
            "print('third')",
            "import asyncio\nawait asyncio.sleep(0.01)\nprint('fourth')",
            "print('fifth')",
        ]
    )
    assert [status for status, _ in answers] == ["ok"] * 5
    assert "nest_asyncio2: this is ipykernel" in answers[0][1]
    assert [text for _, text in answers[1:]] == ["done", "third", "fourth", "fifth"]


def test_where_nest_asyncio_came_first_it_says_what_to_do():
    answers = queue_all(
        [
            "import nest_asyncio\nnest_asyncio.apply()",
            "from chatlab.lab import allow_nested_loops\nallow_nested_loops()",
        ]
    )
    assert answers[1][0] == "error"
    assert "Restart the kernel, remove that line" in answers[1][1]


def test_nest_asyncio_itself_still_skips_cells_there():
    # When this fails, nest_asyncio or ipykernel was repaired, and the choice can be dropped.
    answers = queue_all(
        ["import nest_asyncio\nnest_asyncio.apply()", BLOCKING_SCRIPT, "print('third')"], patience=4
    )
    assert [status for status, _ in answers] == ["ok", "ok", ""]
