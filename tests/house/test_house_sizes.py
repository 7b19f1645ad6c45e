"""Ratchets: how large a module, a function, a folder and a path may grow. Soft limits are reported by conftest.py."""

from house_tree import ROOT, everything, package

MODULE_LINES = 400
FUNCTION_LINES = 60

ALLOWED: dict[str, int] = {}
"""`path` or `path::function` -> lines today. May only shrink: lower a number or delete its line, never add one."""


def _sizes() -> dict[str, int]:
    sizes = {module.where: module.lines for module in everything()}
    for module in everything():
        if "migrations/versions" in module.where:
            continue  # written once, by Alembic, and never changed
        for function in module.functions():
            place = f"{module.where}::{function.name}"
            lines = (function.end_lineno or 0) - function.lineno + 1
            sizes[place] = max(lines, sizes.get(place, 0))
    return sizes


def _limit(place: str) -> int:
    return FUNCTION_LINES if "::" in place else MODULE_LINES


def test_no_module_or_function_is_over_its_limit() -> None:
    over = {place: lines for place, lines in _sizes().items() if lines > max(_limit(place), ALLOWED.get(place, 0))}
    assert not over, f"split these by subject (lines): {over}"


def test_the_allowlist_only_shrinks() -> None:
    sizes = _sizes()
    gone = [place for place in ALLOWED if sizes.get(place, 0) <= _limit(place)]
    assert not gone, f"no longer needed, delete from ALLOWED: {gone}"
    loose = {place: sizes[place] for place, lines in ALLOWED.items() if sizes[place] < lines}
    assert not loose, f"shorter by now, lower in ALLOWED to: {loose}"


def test_the_measure_finds_functions_and_their_lengths() -> None:
    functions = [place for place in _sizes() if "::" in place]
    assert len(functions) > 100
    here = "tests/house/test_house_sizes.py::test_no_module_or_function_is_over_its_limit"
    assert 3 <= _sizes()[here] <= 6


def test_no_file_is_named_for_being_a_leftover() -> None:
    forbidden = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}
    parts = {
        module.where: set(module.path.relative_to(ROOT).with_suffix("").parts) | set(module.path.stem.split("_"))
        for module in everything()
    }
    named = [where for where, words in parts.items() if words & forbidden]
    assert not named, f"name the thing, or put it with its one user: {named}"


def test_every_room_has_its_place_in_the_import_contract() -> None:
    rooms = {module.room for module in package()} - {"", "__main__"}
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    missing = [room for room in sorted(rooms) if f'"dayspring.{room}' not in text and f"dayspring.{room} " not in text]
    assert not missing, f"add these to the layers in pyproject.toml: {missing}"
