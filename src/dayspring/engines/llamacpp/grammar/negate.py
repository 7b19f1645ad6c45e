"""When a schema does not hold: what `not`, `if` and overlapping `oneOf` need.

A schema object is a conjunction of keywords, so it fails when one of them does. Each keyword that can fail in a way a
grammar can express gives an option; the others are refused with the reason.
"""

from collections.abc import Callable
from typing import Any, Final

from dayspring.core.errors import DayspringError
from dayspring.engines.llamacpp.grammar.schema import Node, Schema

__all__ = ["DENIES", "DIFFERS", "EXCLUDES", "negations"]

DENIES: Final = "\0denies"
"""Internal keyword: a schema that must not hold, where an answer that rules out more will do."""

EXCLUDES: Final = "\0excludes"
"""Internal keyword: JSON values the instance is not equal to."""
DIFFERS: Final = "\0differs"
"""Internal keyword: patterns the string does not match."""

_TYPES: Final = ("null", "boolean", "object", "array", "number", "string")
_ANNOTATIONS: Final = frozenset(
    ("title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly", "$schema", "$id",
     "id", "$defs", "definitions", "contentMediaType", "contentEncoding", "nullable")
)  # fmt: skip
_BOUNDS: Final = {
    "minimum": ("number", "exclusiveMaximum", 0),
    "maximum": ("number", "exclusiveMinimum", 0),
    "minLength": ("string", "maxLength", -1),
    "maxLength": ("string", "minLength", 1),
    "minItems": ("array", "maxItems", -1),
    "maxItems": ("array", "minItems", 1),
    "minProperties": ("object", "maxProperties", -1),
    "maxProperties": ("object", "minProperties", 1),
}

Fail = Callable[[str], DayspringError]


def negations(node: Node, schema: Schema, fail: Fail, keyword: str = "not") -> list[list[Node]]:
    """Options, each of which rules `node` out. With "not" as `keyword`, one of them holds whenever `node` does not;
    with DENIES the ways to fail that cannot be expressed are left out. Raises what `fail` makes of a reason.
    """
    if isinstance(node.schema, bool):
        return [] if node.schema else [[]]
    if not isinstance(node.schema, dict):
        raise fail("it is not a schema")
    options: list[list[Node]] = []
    for name, value in node.schema.items():
        if name in _ANNOTATIONS or name.startswith("x-"):
            continue
        found = _negated(node, name, value, schema, keyword)
        if found is not None:
            options.extend(found)
        elif keyword == "not":
            raise fail(f"a schema with {name!r} cannot be negated")
    if not options and keyword == DENIES and node.schema:
        raise fail("it cannot be ruled out")
    return options


def _negated(node: Node, keyword: str, value: Any, schema: Schema, deny: str) -> list[list[Node]] | None:
    """How this keyword alone fails; None: in no way a grammar can express."""

    def one(made: dict[str, Any], tag: str = "") -> list[Node]:
        return [node.synthetic(made, f"not/{keyword}{tag}")]

    match keyword:
        case "type":
            named = value if isinstance(value, list) else [value]
            left = [name for name in _TYPES if name not in named and not (name == "number" and "integer" in named)]
            return [one({"type": left})] if left else []
        case "const":
            return [one({EXCLUDES: [value]})]
        case "enum" if isinstance(value, list):
            return [one({EXCLUDES: value})]
        case "pattern" if isinstance(value, str):
            return [one({"type": "string", DIFFERS: [value]})]
        case "required":
            return [one({"type": "object", "properties": {name: False}}, f"/{name}") for name in node.names("required")]
        case "properties" if isinstance(value, dict):
            return [
                one({"type": "object", "required": [name], "properties": {name: {deny: inner}}}, f"/{name}")
                for name, inner in value.items()
                if inner is not True and inner != {}
            ]
        case "allOf":
            return [one({deny: branch}, f"/{index}") for index, branch in enumerate(value)]
        case "anyOf":
            return [[node.synthetic({deny: branch}, f"not/anyOf/{index}") for index, branch in enumerate(value)]]
        case "not":
            return [[node.inner(node.child("not"))]]
        case "$ref":
            target = schema.resolve(node, "$ref")
            return [[Node({deny: target.schema}, target.pointer, f"{target.key}#{deny}", target.within)]]
        case _ if keyword in _BOUNDS:
            kind, opposite, shift = _BOUNDS[keyword]
            node.number(keyword)
            return [one({"type": kind, opposite: value + shift})] if value + shift >= 0 or shift == 0 else []
        case "exclusiveMinimum" | "exclusiveMaximum":
            opposite = "maximum" if keyword == "exclusiveMinimum" else "minimum"
            return [] if isinstance(value, bool) else [one({"type": "number", opposite: value})]
    return None
