"""The pages say what the code says: reference up to date, version and changelog agree, links lead somewhere."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from house_docs import blocks, links, pages, runnable
from house_tree import PACKAGE, ROOT, project

DECISIONS = ROOT / "docs" / "decisions"


def _text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def test_the_reference_is_what_the_code_says() -> None:
    command = [sys.executable, ROOT / "dev" / "reference.py", "--check"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_setting_and_error_code_has_its_line_in_the_reference() -> None:
    settings = _text("docs/reference/settings.md")
    declared = re.findall(r"^    (\w+): .*=", _text("src/dayspring/core/settings.py"), re.MULTILINE)
    assert len(declared) > 20
    assert [name for name in declared if f"`DAYSPRING_{name.upper()}`" not in settings] == []
    errors = _text("docs/reference/errors.md")
    codes = set(re.findall(r'^    code = "(\w+)"', _text("src/dayspring/core/errors.py"), re.MULTILINE))
    assert len(codes) > 15
    assert [code for code in codes - {"prompt_over_limit"} if f"`{code}`" not in errors] == []


def test_the_version_is_the_newest_of_the_changelog() -> None:
    newest = re.search(r"^## \[(\d[^\]]*)\]", _text("CHANGELOG.md"), re.MULTILINE)
    assert newest
    assert newest[1] == project()["project"]["version"]


def test_every_dependency_is_constrained_to_a_tested_version() -> None:
    lines = _text("constraints.txt").splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    own = project()["project"]
    wanted = [
        *own["dependencies"],
        *own["optional-dependencies"]["postgres"],
        *(line for group in project()["dependency-groups"].values() for line in group),
    ]
    names = {re.split(r"[\[<>=;~! ]", entry)[0].lower().replace("_", "-") for entry in wanted}
    assert len(names) > 25
    assert not names - pinned, "run `make lock`"


def test_every_base_dependency_is_argued_with_its_licence() -> None:
    page = (DECISIONS / "0002-dependencies.md").read_text(encoding="utf-8")
    names = [re.split(r"[\[<>=;~! ]", entry)[0] for entry in project()["project"]["dependencies"]]
    assert [name for name in names if f"| {name} |" not in page] == []


def test_decisions_are_numbered_once_and_have_their_parts() -> None:
    found = sorted(DECISIONS.glob("*.md"))
    assert len(found) >= 10
    numbers = [path.name[:4] for path in found]
    assert len(set(numbers)) == len(numbers)
    for path in found:
        text = path.read_text(encoding="utf-8")
        assert re.match(rf"# {path.name[:4]}\. \S", text), path.name
        assert "## Decision" in text, path.name
        assert len(text.splitlines()) <= 120, f"{path.name} is more than a page or two"


def test_links_inside_the_pages_lead_somewhere() -> None:
    every = [(page, target) for page in pages() for target in links(page)]
    assert len(every) > 30
    broken = [
        f"{page.relative_to(ROOT)} -> {target}"
        for page, target in every
        if (name := target.partition("#")[0]) and not (page.parent / name).exists()
    ]
    assert not broken, broken


def test_make_targets_and_settings_that_pages_name_exist() -> None:
    makefile = _text("Makefile")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    settings = _text("docs/reference/settings.md")
    for page in pages():
        text = page.read_text(encoding="utf-8")
        assert not set(re.findall(r"`make ([a-z]+)", text)) - targets, page.name
        outside = {"DAYSPRING_REQUIRE", "DAYSPRING_TEST_MODELS"}
        named = set(re.findall(r"`(DAYSPRING_[A-Z_]+)", text)) - outside
        assert not {name for name in named if f"`{name}`" not in settings}, page.name


def test_files_that_pages_name_exist() -> None:
    named = [
        (page, name)
        for page in pages()
        for name in re.findall(r"`((?:[\w.]+/)+[\w.]+\.(?:py|toml|json|md))`", page.read_text(encoding="utf-8"))
    ]
    assert len(named) > 30
    places = (ROOT, PACKAGE, PACKAGE / "hub")
    wrong = [
        f"{page.relative_to(ROOT)}: {name}"
        for page, name in named
        if not any((place / name).exists() for place in places)
    ]
    assert not wrong, wrong


def test_python_blocks_can_be_read() -> None:
    python = [block for block in blocks() if block.language == "python"]
    assert len(python) >= 3
    for block in python:
        try:
            ast.parse(block.code)
        except SyntaxError as error:
            pytest.fail(f"{block.where}: {error}")


def test_runnable_blocks_are_of_a_language_that_runs() -> None:
    every = [block for found in runnable().values() for block in found]
    assert ROOT / "README.md" in runnable()
    assert [block.where for block in every if block.language not in {"python", "sh"}] == []


def test_the_readme_holds_the_figures_between_their_marks() -> None:
    text = _text("README.md")
    assert text.count("<!-- figures:begin -->") == text.count("<!-- figures:end -->") == 1
    assert text.index("<!-- figures:begin -->") < text.index("<!-- figures:end -->")


def test_pages_name_no_machine_of_ours() -> None:
    private = re.compile(r"/(?:work|tmp|root)/(?!\.)")
    wrong = [str(page.relative_to(ROOT)) for page in pages() if private.search(page.read_text(encoding="utf-8"))]
    assert not wrong, wrong


def test_pyproject_can_be_read_where_pip_knows_no_groups() -> None:
    command = [sys.executable, ROOT / "dev" / "groups.py", "dev"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    project_file = tomllib.loads(Path(ROOT, "pyproject.toml").read_text(encoding="utf-8"))
    assert ran.stdout.split("\n")[:-1] == project_file["dependency-groups"]["dev"]
