"""What `make bench` makes of its measurements: ratios, verdicts, tables, and the bar beside."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from bench import node, report, run
from bench.bar import Bar
from bench.peers import PEERS
from bench.results import Results, Spread
from bench.scenarios import FIGURES, SCENARIOS, Goal
from chatlab.lab.load import Row

PEER = Path(node.__file__).with_name("peer")


def row(per_cpu: float, **more: Any) -> Row:
    usual: dict[str, Any] = {
        "scenario": "acks",
        "server": "server",
        "unit": "messages",
        "clients": 50,
        "count": round(per_cpu),
        "seconds": 2.0,
        "server_cpu_seconds": 1.0,
        "generator_cpu_share": 0.2,
        "memory_mb": 60.0,
        "peak_mb": 70.0,
        "p50_ms": 1.0,
        "p99_ms": 4.0,
    }
    return Row(**{**usual, **more})


@pytest.fixture
def results() -> Results:
    found = Results(about={"processor": "a fast one"})
    for number, (node_made, chatlab_made) in enumerate(
        [(1_000, 3_000), (2_000, 4_000), (1_000, 2_600)]
    ):
        found.add("acks-16", "node", number, [row(node_made)])
        found.add("acks-16", "chatlab", number, [row(chatlab_made)])
    found.add("acks-16", "stock", 0, [row(200)])
    found.fail("acks-16", "chatlab-full", "the disk is full\nand more")
    return found


def test_a_ratio_is_of_one_round_and_the_median_decides(results: Results) -> None:
    assert results.ratio("acks-16", "chatlab", "node", "per_cpu") == Spread(2.6, 2.0, 3.0, 3)
    assert results.judged(SCENARIOS["acks-16"], Goal("chatlab", "per_cpu", 2.5)) == (
        Spread(2.6, 2.0, 3.0, 3),
        True,
    )


def test_a_round_that_one_of_the_two_missed_has_no_ratio(results: Results) -> None:
    results.add("acks-16", "chatlab", 7, [row(9_000)])
    ratio = results.ratio("acks-16", "chatlab", "node", "per_cpu")
    assert ratio is not None
    assert ratio.count == 3
    assert results.ratio("acks-16", "chatlab-normal", "node", "per_cpu") is None


@pytest.mark.parametrize(
    ("figure", "at", "ratio", "met"),
    [
        ("per_cpu", 2.5, 2.5, True),
        ("per_cpu", 2.5, 2.49, False),
        ("p99", 0.25, 0.25, True),
        ("p99", 0.25, 0.26, False),
        ("kb", 1.0, 0.99, True),
        ("kb", 1.0, 1.0, False),
    ],
)
def test_a_goal_is_reached_from_its_own_side(
    figure: str, at: float, ratio: float, met: bool
) -> None:
    assert Goal("chatlab", figure, at).met(ratio) is met


def test_a_goal_is_told_in_words() -> None:
    assert Goal("chatlab", "per_cpu", 2.5).words == "x2.5"
    assert Goal("chatlab", "kb", 1.0).words == "below Node's"
    assert Goal("chatlab", "p99", 0.25).words == "at most 0.25 of Node's"


def test_every_scenario_has_a_goal_and_peers_that_exist() -> None:
    for scenario in SCENARIOS.values():
        assert scenario.goals
        assert {*scenario.peers} <= {*PEERS}
        assert {*scenario.once} <= {*scenario.peers}
        assert {goal.peer for goal in scenario.goals} <= {*scenario.peers}
        assert {*scenario.figures, *(goal.figure for goal in scenario.goals)} <= {*FIGURES}
        assert scenario.peers[0] in ("node", "node-redis")


def test_idle_memory_and_disconnects_are_read_from_their_own_rows() -> None:
    found = Results()
    idle = row(0, scenario="idle", kb_per_connection=12.0)
    over = row(0, scenario="disconnects", server_cpu_seconds=0.5)
    found.add("park", "node", 0, [idle, over])
    assert found.value("park", "node", 0, "kb") == 12.0
    assert found.value("park", "node", 0, "cpu") == 0.5


def test_results_come_back_from_their_file_as_they_were(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results


def test_the_report_says_what_was_reached_and_what_each_side_keeps(results: Results) -> None:
    text = report.markdown(results)
    title = SCENARIOS["acks-16"].title
    assert (
        f"| {title}, per server-CPU-second | x2.5 | x2.60 (2.00-3.00) | ✓ | 1,000 /CPU-s | "
        "3,000 /CPU-s |"
    ) in text
    assert "[chatlab, SQLite full] | x1 | — | not measured |" in text
    assert "| Node | 500 | 1,000 | 1.00 | 4.00 | 50% | 20% | neither | 70.0 | nothing |" in text
    assert "- acks-16, chatlab, SQLite full: the disk is full\n" in text
    assert "| processor | a fast one |" in text
    assert "stores and orders nothing" in text


def test_the_report_has_tables_of_even_rows(results: Results) -> None:
    width = None
    for line in report.markdown(results).splitlines():
        if not line.startswith("|"):
            width = None
            continue
        assert width in (None, line.count("|"))
        width = line.count("|")


def test_a_figure_that_is_the_generators_own_is_said_to_be(results: Results) -> None:
    assert "The generator was the limit" not in report.terminal(results)
    busy = row(9_000, generator_cpu_share=0.99)
    results.add("acks-1", "chatlab", 0, [busy])
    for text in (report.terminal(results), report.markdown(results)):
        assert "The generator was the limit in: acks-1 (chatlab)" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "—"), (0.2345, "0.23"), (12.34, "12.3"), (234.5, "234"), (45_678.0, "45,700")],
)
def test_a_number_is_told_with_three_figures(value: float | None, text: str) -> None:
    assert report.number(value) == text


def test_the_picture_shows_every_goal_that_was_measured(results: Results, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run.write(results, tmp_path)
    picture = (tmp_path / "results.svg").read_text(encoding="utf-8")
    assert "acks-16" in picture
    assert "times better than Node" in picture
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["rows"]


def test_a_wrong_name_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--only", "acks-17"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("bench: there is no scenario 'acks-17': they are acks-16, acks-1,")


def test_without_node_it_is_said_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none_here() -> list[str]:
        raise FileNotFoundError

    monkeypatch.setattr(node, "find_node", none_here)
    assert run.main(["--only", "acks-1"]) == 2
    assert "install Node 20 or newer" in capsys.readouterr().err


def test_the_bar_shows_what_is_done_and_what_is_left() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    bar = Bar(100.0, stream)
    bar.step(50.0)
    bar.show("acks-16, Node, round 2 of 3")
    bar.line("a line that stays")
    bar.end()
    shown = stream.getvalue()
    assert " 50%  acks-16, Node, round 2 of 3, about 1 min left" in shown
    assert "a line that stays\n" in shown


def test_the_bar_is_silent_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    bar = Bar(100.0, stream)
    bar.show("acks-16")
    bar.end()
    assert stream.getvalue() == ""


def test_the_peer_names_exact_versions_and_no_address() -> None:
    told = json.loads((PEER / "package.json").read_text(encoding="utf-8"))
    lock = json.loads((PEER / "package-lock.json").read_text(encoding="utf-8"))
    for name, version in told["dependencies"].items():
        assert version[0].isdigit()
        assert lock["packages"][f"node_modules/{name}"]["version"] == version
    assert not any("resolved" in package for package in lock["packages"].values())


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("CI") and not (shutil.which("node") and (PEER / "node_modules").is_dir()),
    reason="no Node, or no `npm ci` in bench/peer yet: `make bench` does that",
)
def test_a_short_run_measures_all_three_servers(capfd: pytest.CaptureFixture[str]) -> None:
    told = ["--only", "acks-1", "--peers", "node,chatlab,stock", "--rounds", "1"]
    assert run.main([*told, "--seconds", "0.3", "--warm-up", "0.1"]) == 0
    shown = capfd.readouterr().out
    for label in ("Node", "chatlab", "stock python-socketio"):
        assert f"\n{label} " in shown


def test_a_set_up_that_cannot_install_the_peer_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_network() -> None:
        raise RuntimeError("npm ci failed in bench/peer")

    monkeypatch.setattr(node, "find_node", lambda: ["node"])
    monkeypatch.setattr(node, "install", no_network)
    assert node.main() == 0
    assert "lesson 08 keeps the stored results" in capsys.readouterr().out


def test_a_machine_without_node_is_told_nothing_about_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent() -> list[str]:
        raise FileNotFoundError

    monkeypatch.setattr(node, "find_node", absent)
    assert node.main() == 0
    assert capsys.readouterr().out == ""


def test_the_npm_of_a_wheel_is_found_beside_its_node(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    script.parent.mkdir(parents=True)
    script.touch()
    command = str(tmp_path / "bin" / "node")
    monkeypatch.setattr(node, "find_node", lambda: [command])
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert node._npm_command() == [command, str(script)]
