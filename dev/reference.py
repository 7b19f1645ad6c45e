"""Writes docs/reference from the code: settings, errors, engines, commands and routes.

`python dev/reference.py` rewrites the pages; with `--check` it writes nothing, names the pages that differ and exits 1.
What it does not do: explain. The words are those of the code, so a page is as good as the help text it is made of.
"""

import ast
import inspect
import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import typer
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dayspring.cli.main import build
from dayspring.contracts.registry import engines
from dayspring.core.errors import DayspringError, tree
from dayspring.core.settings import Settings
from dayspring.server.app import create_app
from dayspring.server.house import House

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
NOTE = "<!-- Made from the code by `make reference`; not edited by hand. -->\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _default(name: str, field: FieldInfo) -> str:
    if name == "home":
        return "`~/.dayspring`"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value in ("", {}):
        return "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(field: FieldInfo) -> str:
    shown = {
        int: "whole number",
        float: "number",
        str: "text",
        bool: "true or false",
        Path: "path",
        SecretStr: "secret",
    }
    if field.annotation in shown:
        return shown[field.annotation]
    choices = getattr(field.annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        return ", ".join(f"`{choice}`" for choice in choices)
    return "pairs `name=value,...`"


def settings_page() -> str:
    """Every field of Settings: environment name, type, default, help."""
    rows = [
        (f"`DAYSPRING_{name.upper()}`", _type(field), _default(name, field), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return (
        f"# Settings\n\n{NOTE}\nA setting is an environment variable, read once at the start: a change needs a "
        "restart. What the command line takes (`--host`, `--port`, `--home`) goes before it for that run.\n\n"
        + _table(("setting", "kind", "default", "what it does"), rows)
    )


def _first_paragraph(text: str | None) -> str:
    return inspect.cleandoc(text or "").split("\n\n")[0]


def _tree_notes() -> dict[str, str]:
    """Class name -> what the drawing at the top of core/errors.py says of it."""
    drawing = inspect.getdoc(sys.modules[DayspringError.__module__]) or ""
    notes = {}
    for line in drawing.splitlines():
        words = line.strip(" │├└─").split(maxsplit=2)
        if len(words) == 3 and (words[1].isdigit() or words[1] == "-"):
            notes[words[0]] = words[2]
    return notes


def errors_page() -> str:
    """Every error that can reach a client: code, status, type and meaning."""
    notes = _tree_notes()
    rows = [
        (f"`{kind.code}`", str(kind.status), f"`{kind.type}`", notes[kind.__name__])
        for kind in tree()
        if kind is not DayspringError and kind.code != "prompt_over_limit"
    ]
    return (
        f"# Errors\n\n{NOTE}\nEvery error has one shape:\n\n"
        '```json\n{"error": {"message": "...", "type": "...", "param": null, "code": "..."}}\n```\n\n'
        "`code` never changes its meaning between releases; `message` is a sentence that ends with what to do. "
        "Where waiting helps, the answer carries `Retry-After`.\n\n"
        + _table(("code", "HTTP status", "type", "when"), rows)
    )


def _field_notes(kind: type) -> dict[str, str]:
    """Field -> the docstring that stands below it in the class."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    notes = {}
    for field, below in pairwise(body.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            notes[field.target.id] = str(ast.literal_eval(below.value))
    return notes


def _struct_options(kind: type[msgspec.Struct], prefix: str = "") -> list[tuple[str, str, str]]:
    """Options declared as a struct: name, default, help; those of a list's items follow as `targets[].url`."""
    notes, rows = _field_notes(kind), []
    for field in msgspec.structs.fields(kind):
        factory = field.default_factory
        default = factory() if factory is not msgspec.NODEFAULT else field.default
        shown = "required" if default is msgspec.NODEFAULT else f"`{default}`" if default or default == 0 else "empty"
        rows.append((f"`{prefix}{field.name}`", shown, notes.get(field.name, "")))
        nested = [part for part in _parts(field.type) if isinstance(part, type) and issubclass(part, msgspec.Struct)]
        for part in nested:
            rows += _struct_options(part, f"{prefix}{field.name}[].")
    return rows


def _parts(annotation: Any) -> list[Any]:
    arguments = getattr(annotation, "__args__", ())
    return [annotation, *(part for argument in arguments for part in _parts(argument))]


def _options(engine: Any) -> str:
    """From the struct `Options` in the module `options` beside the engine, a table; else the docstring that names each
    of the engine's `options`. Raises SystemExit for one that no docstring names."""
    kind = type(engine)
    beside = f"{kind.__module__.rpartition('.')[0]}.options"
    if find_spec(beside) is not None:
        rows = _struct_options(import_module(beside).Options)
        return "\nOptions of a model:\n\n" + _table(("option", "default", "what it does"), rows)
    texts = [inspect.cleandoc(each or "") for each in (kind.__doc__, sys.modules[kind.__module__].__doc__)]
    names = [f"`{name}`" for name in sorted(getattr(engine, "options", ()))]
    if not names:
        return ""
    for paragraph in "\n\n".join(texts).split("\n\n"):
        if all(name in paragraph for name in names):
            return f"\n{paragraph}\n"
    raise SystemExit(f"One paragraph in the docstring of {kind.__qualname__} must name all its options: {names}")


def engines_page() -> str:
    """Every installed engine of ours: what it runs, where, and its options."""
    parts = [f"# Engines\n\n{NOTE}\nA model names the engine that runs it; `dayspring doctor` lists those installed.\n"]
    for name, engine in sorted(engines().items()):
        if not type(engine).__module__.startswith("dayspring."):
            continue
        facts = [
            ("abilities", ", ".join(sorted(engine.abilities))),
            ("formats", ", ".join(sorted(engine.formats)) or "none: the model is described by its options"),
            ("devices", ", ".join(sorted(engine.devices))),
            ("runs", "in the server process" if engine.placement == "inline" else "in a worker process"),
        ]
        about = _first_paragraph(sys.modules[type(engine).__module__].__doc__)
        parts.append(f"\n## {name}\n\n{about}\n\n{_table(('', ''), facts)}")
        parts.append(_options(engine))
    return "".join(parts)


# Typer carries its own command classes, so these go by what an object has rather than by what it is.
def _commands(command: Any, path: str) -> Iterable[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name in sorted(command.commands):
            yield from _commands(command.commands[name], f"{path} {name}")
    else:
        yield path, command


def _parameter(parameter: Any) -> tuple[str, str]:
    if parameter.param_type_name == "option":
        name = ", ".join([*parameter.opts, *parameter.secondary_opts])
        default = parameter.default
        shown = "" if default in (None, False, "") or callable(default) else f" Default: {default}."
        return f"`{name}`", f"{parameter.help or ''}{shown}"
    return f"`{parameter.name.upper()}`", parameter.help or ""


def cli_page() -> str:
    """Every command with its arguments and options."""
    parts = [f"# Commands\n\n{NOTE}\nEvery command answers `--help`.\n"]
    for path, command in _commands(typer.main.get_command(build()), "dayspring"):
        parts.append(f"\n## `{path}`\n\n{inspect.cleandoc(command.help or '')}\n")
        rows = [_parameter(parameter) for parameter in command.params if parameter.name != "help"]
        if rows:
            parts.append("\n" + _table(("argument or option", "what it does"), rows))
    return "".join(parts)


@cache
def _openapi() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as home, House.open(Settings(home=Path(home), database_url="")) as house:
        return create_app(house).openapi()


def openapi_document() -> str:
    """The server's OpenAPI description."""
    return json.dumps(_openapi(), indent=2, ensure_ascii=False) + "\n"


def http_page() -> str:
    """Every route of the OpenAPI description, with its first sentence."""
    described = _openapi()
    rows = []
    for path, methods in sorted(described["paths"].items()):
        for method, route in methods.items():
            about = _first_paragraph(route.get("description")) or route.get("summary", "")
            rows.append((f"`{method.upper()} {path}`", about))
    return (
        f"# HTTP routes\n\n{NOTE}\nThe full description, with every body and answer, is [openapi.json](openapi.json); "
        "a running server has it at `/openapi.json`.\n\n" + _table(("route", "what it does"), rows)
    )


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "errors.md": errors_page,
    "engines.md": engines_page,
    "cli.md": cli_page,
    "http.md": http_page,
    "openapi.json": openapi_document,
}


def main(check: bool) -> int:
    stale = []
    for name, page in PAGES.items():
        path = FOLDER / name
        text = page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    if stale:
        print(("out of date, run `make reference`: " if check else "written: ") + ", ".join(stale))
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
