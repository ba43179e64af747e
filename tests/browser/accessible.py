"""axe-core on an open page: what keeps somebody from using it, as WCAG A and AA see it.

It finds what a program can find, about half; it does not replace looking and listening.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.async_api import Page

AXE = Path(__file__).parents[1] / "js" / "node_modules" / "axe-core" / "axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
MOST_PLACES = 5

RUN = """
async ([tags, include, exclude]) => {
  const context = {};
  if (include.length) context.include = include;
  if (exclude.length) context.exclude = exclude;
  const result = await window.axe.run(
    include.length || exclude.length ? context : document,
    {
      runOnly: {type: "tag", values: tags},
      rules: {"frame-tested": {enabled: true}},
      resultTypes: ["violations"],
    },
  );
  return result.violations;
}
"""


async def axe(page: Page, *, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> None:
    """Fail with every violation that axe-core finds in the page and in the frames inside it.

    `include` and `exclude` are CSS selectors of what to look at and what to leave out.
    """
    source = AXE.read_text(encoding="utf-8")
    for frame in page.frames:
        if frame.is_detached() or not await frame.evaluate("Boolean(document.documentElement)"):
            continue
        # Evaluated by the debugger: a page's Content-Security-Policy does not stand in its way.
        await frame.evaluate(f"{source}\nundefined")
        await frame.evaluate("axe.configure({allowedOrigins: ['<unsafe_all_origins>']})")
    violations = await page.evaluate(RUN, [TAGS, list(include), list(exclude)])
    if violations:
        raise AssertionError(f"axe-core on {page.url}:\n{readable(violations)}")


def readable(violations: list[dict[str, Any]]) -> str:
    """The violations as text: each rule, why it matters, and where."""
    lines = []
    for violation in violations:
        lines.append(f"  {violation['impact']}: {violation['help']} ({violation['id']})")
        nodes = violation["nodes"]
        for node in nodes[:MOST_PLACES]:
            lines.append(f"    {' > '.join(map(str, node['target']))}   {node['html'][:160]}")
            lines += [f"      {line}" for line in node.get("failureSummary", "").splitlines()[1:]]
        if len(nodes) > MOST_PLACES:
            lines.append(f"    and {len(nodes) - MOST_PLACES} more")
    return "\n".join(lines)
