"""The results as text: a table for a terminal, and bench/results.md."""

from __future__ import annotations

from bench.peers import PEERS
from bench.results import Results, Spread
from bench.scenarios import FIGURES, SCENARIOS, Figure, Goal, Scenario
from chatlab.lab.load import Row

__all__ = ["goals", "markdown", "number", "terminal"]


def number(value: float | None, figure: Figure | None = None) -> str:
    """Three figures, thousands with a comma; "—" for what was not measured."""
    if value is None:
        return "—"
    if value >= 1000:
        digits = 10 ** max(0, len(str(int(value))) - 3)
        return f"{round(value / digits) * digits:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ratio(spread: Spread | None) -> str:
    if spread is None:
        return "—"
    text = f"x{number(spread.median)}"
    if spread.count > 1:
        text += f" ({number(spread.least)}-{number(spread.most)})"
    return text


def goals(results: Results) -> list[list[str]]:
    """A line for each target: what, target, reached, met, Node's and ours."""
    found = []
    for scenario in SCENARIOS.values():
        if scenario.name not in results.rows and scenario.name not in results.failures:
            continue
        for goal in scenario.goals:
            spread, met = results.judged(scenario, goal)
            found.append(
                [
                    _what(scenario, goal),
                    goal.words,
                    _ratio(spread),
                    "not measured" if met is None else "✓" if met else "✗",
                    _told(results, scenario.name, scenario.peers[0], goal.figure),
                    _told(results, scenario.name, goal.peer, goal.figure),
                ]
            )
    return found


GOALS = ["scenario", "target", "median of ratios (min-max)", "met", "Node", "chatlab"]


def _what(scenario: Scenario, goal: Goal) -> str:
    figure = FIGURES[goal.figure]
    extra = "" if goal.peer in ("chatlab", "chatlab-redis") else f" [{PEERS[goal.peer].label}]"
    return f"{scenario.title}, {figure.label}{extra}"


def _told(results: Results, scenario: str, peer: str, name: str) -> str:
    spread = results.figure(scenario, peer, name)
    return "—" if spread is None else f"{number(spread.median)} {FIGURES[name].unit}"


PEER_COLUMNS = [
    "server", "a second", "per CPU-second", "p50 ms", "p99 ms", "its CPU", "generator's CPU",
    "limit", "peak MB", "a message is kept",
]  # fmt: skip


def _peer_line(results: Results, scenario: Scenario, peer: str) -> list[str]:
    rows = [row for row in results.of(scenario.name, peer) if row.scenario != "disconnects"]
    if not rows:
        reason = results.failures.get(scenario.name, {}).get(peer)
        return [PEERS[peer].label, *["—"] * 8, "not measured" if reason else "—"]
    median = {
        name: Spread.of([value for row in rows if (value := getattr(row, name)) is not None])
        for name in (
            "per_second", "per_cpu_second", "p50_ms", "p99_ms", "server_cpu_share",
            "generator_cpu_share", "peak_mb",
        )
    }  # fmt: skip
    told = {name: None if spread is None else spread.median for name, spread in median.items()}
    return [
        PEERS[peer].label,
        number(told["per_second"]),
        number(told["per_cpu_second"]),
        number(told["p50_ms"]),
        number(told["p99_ms"]),
        f"{told['server_cpu_share'] or 0:.0%}",
        f"{told['generator_cpu_share'] or 0:.0%}",
        _limit(rows),
        number(told["peak_mb"]),
        PEERS[peer].keeps,
    ]


def _tables(results: Results, scenario: Scenario) -> list[list[list[str]]]:
    """What is told of a scenario: rates of each peer, and the scenario's own figures."""
    names = _peers(results, scenario)
    tables = []
    if scenario.timed:
        lines = [_peer_line(results, scenario, peer) for peer in names]
        tables.append([PEER_COLUMNS, *lines])
    if scenario.figures:
        tables.append(_figures(results, scenario, names))
    return tables


def _figures(results: Results, scenario: Scenario, names: list[str]) -> list[list[str]]:
    """Each figure of each peer, with its ratio to the first peer's."""
    head = ["server", *(f"{FIGURES[f].label}, {FIGURES[f].unit}" for f in scenario.figures)]
    lines = []
    for peer in names:
        line = [PEERS[peer].label]
        for name in scenario.figures:
            spread = results.figure(scenario.name, peer, name)
            ratio = results.ratio(scenario.name, peer, scenario.peers[0], name)
            own = number(None if spread is None else spread.median)
            line.append(own if peer == scenario.peers[0] else f"{own}, {_ratio(ratio)}")
        lines.append([*line, PEERS[peer].keeps])
    return [[*head, "a message is kept"], *lines]


def _limit(rows: list[Row]) -> str:
    kinds = sorted({row.bottleneck for row in rows})
    return "/".join(kinds)


def _present(results: Results) -> list[Scenario]:
    measured = {*results.rows, *results.failures}
    return [scenario for scenario in SCENARIOS.values() if scenario.name in measured]


def _peers(results: Results, scenario: Scenario) -> list[str]:
    known = {*results.rows.get(scenario.name, {}), *results.failures.get(scenario.name, {})}
    return [peer for peer in scenario.peers if peer in known]


def terminal(results: Results) -> str:
    """The tables for a terminal."""
    parts = []
    for scenario in _present(results):
        parts.append(f"\n{scenario.title}")
        parts += [_aligned(table) for table in _tables(results, scenario)]
    parts.append(f"\n{_aligned([GOALS, *goals(results)])}")
    warning = _too_slow(results)
    if warning:
        parts.append("\n" + warning)
    return "\n".join(parts)


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *others = (
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *others]).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _too_slow(results: Results) -> str:
    """Which figures are the generator's own limit."""
    found = []
    for scenario in _present(results):
        for peer in _peers(results, scenario):
            rows = results.of(scenario.name, peer)
            if any(row.bottleneck == "generator" for row in rows):
                found.append(f"{scenario.name} ({PEERS[peer].label})")
    if not found:
        return ""
    return (
        f"The generator was the limit in: {', '.join(found)}. There the figures per second are its "
        "own; those per CPU-second are the server's."
    )


def _table(rows: list[list[str]]) -> str:
    head, *others = rows
    lines = [head, ["---"] * len(head), *others]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def markdown(results: Results) -> str:
    """bench/results.md."""
    about = [[name, str(value)] for name, value in results.about.items()]
    parts = [
        "# Measured",
        "Written by `make bench`; [README.md](README.md) says what is measured and how to read it.",
        _table([["what", "this run"], *about]),
        "## Targets",
        "Each ratio is chatlab's figure over Node's of the same round, per server-CPU-second where "
        "nothing else is said; the median of the rounds decides, the brackets hold least and most. "
        "Node's server checks the token, joins and emits, and keeps nothing; chatlab's limits, "
        "validates, orders and keeps every message before it acks it.",
        _table([GOALS, *goals(results)]),
        "![chatlab's ratio to Node in each scenario](results.svg)",
        "## Every server",
    ]
    for scenario in _present(results):
        parts.append(f"### {scenario.title}")
        parts += [_table(table) for table in _tables(results, scenario)]
    parts += ["## What each of them does", _does(results)]
    parts += [text for text in (_too_slow(results), _failed(results)) if text]
    return "\n\n".join(parts) + "\n"


def _does(results: Results) -> str:
    named = dict.fromkeys(
        peer for scenario in _present(results) for peer in _peers(results, scenario)
    )
    return _table(
        [["server", "what it does for each message"]]
        + [[PEERS[peer].label, PEERS[peer].does] for peer in named]
    )


def _failed(results: Results) -> str:
    lines = [
        f"- {scenario}, {PEERS[peer].label}: {reason.splitlines()[0]}"
        for scenario, peers in results.failures.items()
        for peer, reason in peers.items()
    ]
    return "\n".join(["## Not measured", "", *lines]) if lines else ""
