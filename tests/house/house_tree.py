"""What the house tests walk: the project's Python files, parsed once, and who imports whom.

Every walk has a floor, so that a test over it cannot silently find nothing. Files are read as text: nothing of the
package is imported here.
"""

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "dayspring"
ROOMS = (
    "core", "contracts", "store", "blobs", "accounts", "ledger", "hub", "compute", "dispatch", "engines", "testing",
    "web", "chat", "server", "cli",
)  # fmt: skip

WORKER_FILES = frozenset({"worker.py", "quality.py"})

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    path: Path
    name: str
    """Dotted name, `dayspring.core.ids`; for a file outside the package, its path."""
    lines: int
    tree: ast.Module

    @property
    def where(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def room(self) -> str:
        """`core`, `hub`, ...; empty for the package's own `__init__`."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""

    def functions(self) -> Iterator[Function]:
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))

    def imports(self) -> Iterator[tuple[str, int]]:
        """Full dotted names, with their line: `from a.b import c` gives `a.b.c`, as c may be a module."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def _module(path: Path) -> Module:
    text = path.read_text(encoding="utf-8")
    inside = path.is_relative_to(PACKAGE)
    parts = path.relative_to(PACKAGE.parent if inside else ROOT).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(path, name, len(text.splitlines()), ast.parse(text, str(path)))


def _under(folder: Path, least: int) -> list[Module]:
    found = [_module(path) for path in sorted(folder.rglob("*.py")) if "__pycache__" not in path.parts]
    if len(found) < least:
        raise AssertionError(f"only {len(found)} Python files found under {folder}, at least {least} expected")
    return found


@cache
def package() -> tuple[Module, ...]:
    """Every module of src/dayspring."""
    found = _under(PACKAGE, 30)
    missing = set(ROOMS) - {module.room for module in found}
    if missing:
        raise AssertionError(f"rooms not found: {sorted(missing)}")
    return tuple(found)


@cache
def everything() -> tuple[Module, ...]:
    """The package, its tests and the development scripts."""
    return (*package(), *_under(ROOT / "tests", 8), *_under(ROOT / "dev", 3))


@cache
def importers() -> dict[str, set[str]]:
    """Module name -> the modules of the package that import it."""
    known = {module.name for module in package()}
    found: dict[str, set[str]] = {name: set() for name in known}
    for module in package():
        for name, _ in module.imports():
            target = name if name in known else name.rpartition(".")[0]
            if target in known:
                found[target].add(module.name)
    return found


def is_worker_side(name: str, seen: frozenset[str] = frozenset()) -> bool:
    """Whether it is a worker file, or a module that only worker-side modules import."""
    by_name = {module.name: module for module in package()}
    if by_name[name].path.name in WORKER_FILES:
        return True
    users = importers()[name] - {name} - seen
    return bool(users) and all(is_worker_side(user, seen | {name}) for user in users)


@cache
def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
