"""What a conjunction of plain schemas says of each JSON type.

What holds: a Shape is the exact meaning of its nodes' own keywords; `implied` alone narrows it, and only when asked.
"""

import json
import math
from functools import cached_property
from typing import Any, Final

from dayspring.engines.llamacpp.grammar.limits import bad_schema, refuse
from dayspring.engines.llamacpp.grammar.negate import EXCLUDES
from dayspring.engines.llamacpp.grammar.schema import Node

__all__ = ["TYPES", "Shape", "canonical", "type_of"]

TYPES: Final = ("object", "array", "string", "number", "boolean", "null")
_KEYWORDS: Final = {
    "object": ("properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties",
               "propertyNames"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "additionalItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}  # fmt: skip


class Shape:
    """The nodes of one conjunction."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    @cached_property
    def key(self) -> tuple[str, ...]:
        return tuple(node.key for node in self.nodes)

    @property
    def pointer(self) -> str:
        return self.nodes[0].pointer if self.nodes else ""

    def with_keyword(self, *keywords: str) -> list[Node]:
        return [node for node in self.nodes if any(node.has(keyword) for keyword in keywords)]

    @cached_property
    def types(self) -> frozenset[str]:
        """The types all nodes allow; integers are numbers."""
        allowed = frozenset(TYPES)
        for node in self.with_keyword("type"):
            allowed &= {"number" if name == "integer" else name for name in _types(node)}
        return allowed

    @cached_property
    def integers_only(self) -> bool:
        return any("number" not in _types(node) for node in self.with_keyword("type"))

    @cached_property
    def implied(self) -> frozenset[str]:
        """The types to generate: where no node names a type, those whose keywords are used."""
        if self.with_keyword("type"):
            return self.types
        used = frozenset(kind for kind, keywords in _KEYWORDS.items() if self.with_keyword(*keywords))
        return used or self.types

    @cached_property
    def values(self) -> list[Any] | None:
        """What enum and const leave, without regard to the other keywords; None: neither is there."""
        left: list[Any] | None = None
        for node in self.with_keyword("enum", "const"):
            if node.has("enum"):
                listed = node.get("enum", list, "a list")
                left = listed if left is None else _common(left, listed)
            if node.has("const"):
                left = [node.schema["const"]] if left is None else _common(left, [node.schema["const"]])
        if left is None:
            return None
        kept = {canonical(value, self.pointer): value for value in left}
        return [value for key, value in kept.items() if key not in self.excluded]

    @cached_property
    def value_keys(self) -> frozenset[str] | None:
        """`values` as canonical texts."""
        return None if self.values is None else frozenset(canonical(value, "") for value in self.values)

    @cached_property
    def excluded(self) -> dict[str, Any]:
        """Values the instance must not be equal to, by canonical text."""
        nodes = self.with_keyword(EXCLUDES)
        return {canonical(value, node.pointer): value for node in nodes for value in node.schema[EXCLUDES]}


def _types(node: Node) -> list[str]:
    value = node.schema["type"]
    names = value if isinstance(value, list) else [value]
    for name in names:
        if name != "integer" and name not in TYPES:
            raise bad_schema(f"{node.pointer}/type", "a type must be one of JSON's seven")
    return names


def _common(left: list[Any], right: list[Any]) -> list[Any]:
    known = {canonical(value, "") for value in right}
    return [value for value in left if canonical(value, "") in known]


def type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def canonical(value: Any, pointer: str) -> str:
    """Equal texts are equal JSON values. Raises InvalidRequest for a number that JSON cannot write."""

    def plain(inner: Any) -> Any:
        if isinstance(inner, float):
            if not math.isfinite(inner):
                raise refuse("enum", pointer, "it holds a number beyond what JSON can write")
            return int(inner) if inner.is_integer() else inner
        if isinstance(inner, list):
            return [plain(item) for item in inner]
        if isinstance(inner, dict):
            return {name: plain(item) for name, item in inner.items()}
        return inner

    return json.dumps(plain(value), sort_keys=True, ensure_ascii=False)
