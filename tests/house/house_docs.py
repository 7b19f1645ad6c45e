"""The pages people read, and the code blocks in them.

A block whose info string is `python run` or `sh run` is executed by test_house_pages.py; any other is only shown.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from house_tree import ROOT

_BLOCK = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    runs: bool
    code: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@cache
def pages() -> tuple[Path, ...]:
    """Every Markdown page of the project."""
    found = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
    if len(found) < 20:
        raise AssertionError(f"only {len(found)} pages found")
    return found


@cache
def blocks() -> tuple[Block, ...]:
    """Every fenced block of every page."""
    found = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(text):
            language, *words = match[1].split() or [""]
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(page, line, language, "run" in words, match[2]))
    return tuple(found)


def runnable() -> dict[Path, list[Block]]:
    """Page -> its blocks that run, in order; those of one page run one after another and share their names."""
    found: dict[Path, list[Block]] = {}
    for block in blocks():
        if block.runs:
            found.setdefault(block.page, []).append(block)
    return found


def links(page: Path) -> list[str]:
    """Targets of the page's links that lie in the repository."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    return [target for target in _LINK.findall(text) if not re.match(r"[a-z]+:", target)]
