"""The schema as the compiler reads it: checked in size, addressed by JSON pointer, keywords read with their types.

What holds: nothing here recurses into the schema, so its depth cannot exhaust the stack; a keyword of a wrong type is
an InvalidRequest that names its pointer.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final
from urllib.parse import unquote

from dayspring.core.errors import InvalidRequest
from dayspring.engines.llamacpp.grammar.limits import MAX_DEPTH, MAX_NODES, bad_schema, refuse, too_complex

__all__ = ["Node", "Schema", "check_size", "fraction"]


_ITEM_LISTS: Final = ("-03", "-04", "-05", "-06", "-07", "/2019-09")


@dataclass(frozen=True, slots=True)
class Node:
    """One subschema in its place."""

    schema: Any
    """An object or a boolean; anything else is refused when it is read."""
    pointer: str
    """Where it stands in the caller's schema: for messages."""
    key: str
    """What it means: equal keys are equal schemas."""
    within: frozenset[str] = frozenset()
    """Keys of the schemas that apply it to the same instance."""

    def child(self, *path: str | int) -> "Node":
        """The subschema under these keys, which applies to a part of the instance."""
        value = self.schema
        for part in path:
            value = value[part]
        tail = "".join(f"/{_escaped(str(part))}" for part in path)
        return Node(value, self.pointer + tail, self.key + tail)

    def inner(self, node: "Node") -> "Node":
        """`node` as applied to the same instance by this one."""
        return Node(node.schema, node.pointer, node.key, self.within | {self.key})

    def synthetic(self, schema: Any, tag: str) -> "Node":
        """A schema that follows from this one, for the same instance."""
        return Node(schema, self.pointer, f"{self.key}#{tag}", self.within)

    def has(self, keyword: str) -> bool:
        return isinstance(self.schema, dict) and keyword in self.schema

    def bad(self, keyword: str, wanted: str) -> InvalidRequest:
        return bad_schema(f"{self.pointer}/{keyword}", f"{keyword!r} must be {wanted}")

    def get(self, keyword: str, kind: type | tuple[type, ...], wanted: str) -> Any:
        """The keyword's value or None. Raises InvalidRequest when it is not of this kind."""
        if not self.has(keyword):
            return None
        value = self.schema[keyword]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.bad(keyword, wanted)
        return value

    def count(self, keyword: str) -> int | None:
        """A size: a whole number from 0."""
        value = self.get(keyword, (int, float), "a whole number from 0")
        if value is None:
            return None
        if isinstance(value, float) and not math.isfinite(value):
            raise self.bad(keyword, "a whole number from 0")
        if value < 0 or value != int(value):
            raise self.bad(keyword, "a whole number from 0")
        return int(value)

    def number(self, keyword: str) -> Fraction | None:
        value = self.get(keyword, (int, float), "a number")
        if isinstance(value, float) and not math.isfinite(value):
            raise self.bad(keyword, "a number")
        return None if value is None else fraction(value)

    def names(self, keyword: str) -> list[str]:
        value = self.get(keyword, list, "a list of strings") or []
        if not all(isinstance(name, str) for name in value):
            raise self.bad(keyword, "a list of strings")
        return list(value)

    def members(self, keyword: str) -> dict[str, "Node"]:
        """An object of subschemas."""
        value = self.get(keyword, dict, "an object") or {}
        return {name: self.child(keyword, name) for name in value}

    def choices(self, keyword: str) -> list["Node"]:
        """A list of subschemas for the same instance."""
        value = self.get(keyword, list, "a list of schemas that is not empty")
        if value is None:
            return []
        if not value:
            raise self.bad(keyword, "a list of schemas that is not empty")
        return [self.inner(self.child(keyword, index)) for index in range(len(value))]


class Schema:
    """The whole document: resolves local references."""

    def __init__(self, document: Any) -> None:
        self.document = document
        self.root = Node(document, "", "")
        dialect = document.get("$schema") if isinstance(document, dict) else None
        self.has_item_lists = isinstance(dialect, str) and any(f"draft{name}" in dialect for name in _ITEM_LISTS)
        """Whether `items` may be a list: before draft 2020-12, and only where the schema says so."""
        self._base = str(document.get("$id", document.get("id", ""))).rstrip("#") if isinstance(document, dict) else ""

    def resolve(self, node: Node, keyword: str) -> Node:
        """The schema that a reference of `node` names. Raises UnsupportedParameter for one that is not local."""
        reference = node.get(keyword, str, "a string")
        local = reference
        if self._base and local.startswith(self._base + "#"):
            local = local[len(self._base) :]
        elif self._base and local == self._base:
            local = "#"
        if not local.startswith("#"):
            raise refuse(keyword, node.pointer, f"only references into this schema are followed, not {reference!r}")
        pointer = unquote(local[1:])
        if pointer and not pointer.startswith("/"):
            raise refuse(
                keyword, node.pointer, f"only '#' and JSON pointers are followed, not the anchor {reference!r}"
            )
        value = self.document
        for raw in pointer.split("/")[1:]:
            part = raw.replace("~1", "/").replace("~0", "~")
            if isinstance(value, list) and part.isdigit() and int(part) < len(value):
                value = value[int(part)]
            elif isinstance(value, dict) and part in value:
                value = value[part]
                if isinstance(value, dict) and isinstance(value.get("$id"), str):
                    raise refuse("$id", pointer, "an identifier inside the schema changes what references mean")
            else:
                raise bad_schema(f"{node.pointer}/{keyword}", f"there is nothing at {reference!r}")
        return Node(value, pointer, pointer, node.within | {node.key})


def check_size(document: Any) -> None:
    """Raises UnsupportedParameter for a schema over the limits on depth and size. Does not recurse."""
    count = 0
    pending: list[tuple[Any, int]] = [(document, 0)]
    while pending:
        value, depth = pending.pop()
        count += 1
        if depth > MAX_DEPTH:
            raise too_complex(f"it is nested over {MAX_DEPTH} levels deep")
        if count > MAX_NODES:
            raise too_complex(f"it has over {MAX_NODES} values")
        if isinstance(value, dict):
            if not all(isinstance(name, str) for name in value):
                raise bad_schema("", "every key must be a string")
            pending.extend((inner, depth + 1) for inner in value.values())
        elif isinstance(value, list | tuple):
            pending.extend((inner, depth + 1) for inner in value)


def fraction(value: float) -> Fraction:
    """The exact decimal that a JSON number was written as; past 2**53, where doubles are whole, the double itself."""
    return Fraction(value) if isinstance(value, int) or abs(value) >= 2**53 else Fraction(repr(value))


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
