"""Follows the relative links of a notebook: to files, and to headings and marks inside them."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import nbformat

MARKDOWN_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
HTML_LINK = re.compile(r"<(?:a|img|source)\b[^>]*?\b(?:href|src)\s*=\s*[\"']([^\"']+)[\"']", re.I)
MARK = re.compile(r"\bid\s*=\s*[\"']([^\"']+)[\"']")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$", re.MULTILINE)
FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`[^`\n]*`")


def broken_links(path: Path) -> list[str]:
    """The links in the text of the notebook at `path` that lead nowhere, each with the reason."""
    faults = []
    for link in links(text_of(path)):
        if re.match(r"[a-z][a-z0-9+.-]*:|//", link, re.I):
            continue
        place, _, fragment = link.partition("#")
        target = path.parent / unquote(place) if place else path
        if not target.exists():
            faults.append(f"{path.name}: {link}: no such file")
        elif fragment and unquote(fragment) not in marks(target):
            faults.append(f"{path.name}: {link}: no such heading or mark there")
    return faults


def links(text: str) -> list[str]:
    text = INLINE_CODE.sub("code", FENCED.sub("", text))
    return MARKDOWN_LINK.findall(text) + HTML_LINK.findall(text)


def text_of(path: Path) -> str:
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def marks(path: Path) -> set[str]:
    """What a fragment can name: ids, and headings as JupyterLab and GitHub spell them."""
    if path.suffix not in {".ipynb", ".md"}:
        return set()
    text = FENCED.sub("", text_of(path))
    found = set(MARK.findall(text))
    for heading in HEADING.findall(text):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"[`*]|<[^>]+>", "", heading))
        if path.suffix == ".ipynb":
            found.add(plain.strip().replace(" ", "-"))
        else:
            found.add(re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-"))
    return found
