"""Wounds of peers in how they are built and shipped, one test each, against our own files."""

import re
import tomllib

from wounds_kit import ROOT


def _lines(*names: str) -> list[tuple[str, str]]:
    found = []
    for name in names:
        text = re.sub(r"\\\n\s*", " ", (ROOT / name).read_text(encoding="utf-8"))
        found += [(name, line.strip()) for line in text.splitlines()]
    return found


def test_every_package_that_is_installed_is_pinned() -> None:
    """LiteLLM's PyPI releases 1.82.7 and 1.82.8 (2026-03-24), Xinference's in 2026-04: the newest is not the safest."""
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert len(pins) > 60
    assert [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._\[\]-]+==[A-Za-z0-9.!+]+( *;.*)?", line)] == []
    installs = [
        (name, line) for name, line in _lines("Makefile", ".ci/run", "packaging/container/Containerfile")
        if re.search(r"pip install|pip3 install|uv pip", line) and not line.startswith("#")
    ]  # fmt: skip
    assert installs
    container = (ROOT / "packaging/container/Containerfile").read_text()
    for name, line in installs:
        held = (
            "constraint" in line or "-c constraints" in line or ("PIP_CONSTRAINT" in container and "container" in name)
        )
        assert held, f"{name}: {line}"


def test_continuous_integration_fetches_no_tool_by_a_name_that_moves() -> None:
    """The Trivy action through which LiteLLM's key was taken: a tag that somebody else can move."""
    lines = _lines(".ci/run", "Makefile", "packaging/container/Containerfile")
    moving = re.compile(
        r"curl .*\|\s*(ba)?sh|wget .*\|\s*(ba)?sh|uses:\s*\S+@(main|master|v\d+)\b|:latest\b|npx |pipx run"
    )
    assert [entry for entry in lines if moving.search(entry[1])] == []
    assert not list(ROOT.glob(".github/workflows/*"))


def test_nothing_of_ours_runs_when_python_starts() -> None:
    """The `.pth` file of the poisoned LiteLLM wheel. That the built wheel has none, tests/packaging shows."""
    names = [path.name for path in (ROOT / "src").rglob("*") if path.is_file()]
    assert [
        name for name in names if name.endswith((".pth", ".start")) or name in ("sitecustomize.py", "setup.py")
    ] == []
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(hatch) == {"packages"}, "no build hook, and no file from elsewhere"


def test_no_secret_is_in_the_repository() -> None:
    """Keys that leaked with the sources of several peers. What only looks like one says so by its words."""
    shape = re.compile(r"(sk-[A-Za-z0-9]{32,}|hf_[A-Za-z0-9]{30,}|ds-[A-Za-z0-9_-]{40,}|AKIA[A-Z0-9]{16}"
                       r"|-----BEGIN [A-Z ]*PRIVATE KEY-----\n[A-Za-z0-9+/=\n]{100})")  # fmt: skip
    found = []
    for folder in ("src", "tests", "docs", "dev", "packaging"):
        for path in (ROOT / folder).rglob("*"):
            if path == ROOT / "tests/upgrade/release-0.1.0.json":
                continue  # an installation made for the test, with its keys, to be opened by what comes after
            if path.suffix in (".py", ".md", ".yaml", ".toml", ".json", ".service", ".sh", ".conf") and path.is_file():
                found += [f"{path.relative_to(ROOT)}" for _ in shape.findall(path.read_text(encoding="utf-8"))]
    assert found == []
