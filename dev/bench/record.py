"""Where a figure comes from: the machine, the commit, the versions; and the file and table it goes into."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["FOLDER", "ROOT", "median", "print_table", "write"]

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "dev" / "benchmarks"


def write(name: str, figures: dict[str, Any], *, versions: Sequence[str], setup: dict[str, Any]) -> Path:
    """Writes `dev/benchmarks/<name>.json`. `figures` holds medians and all rounds, `setup` what was asked for."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    content = {
        "benchmark": name,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": _machine(),
        "versions": {package: _version(package) for package in sorted(versions)},
        "setup": setup,
        **figures,
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {path.relative_to(ROOT)}")
    return path


def median(values: Sequence[float], digits: int = 3) -> float:
    return round(statistics.median(values), digits)


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A plain table, its columns as wide as their widest cell."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--", "src")
    return (git("rev-parse", "HEAD") or "unknown") + (" with uncommitted changes" if changed else "")


def _machine() -> dict[str, Any]:
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].strip() if names else ""
    return {
        "processor": model or platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
