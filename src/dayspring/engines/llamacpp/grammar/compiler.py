"""A JSON Schema to a Grammar: one rule for each set of schemas that must hold together, made from a queue.

What holds: no recursion over the schema, so depth and reference chains cannot exhaust the stack; equal sets share a
rule, which is what makes a recursive schema finite; rules that derive no finite text are pruned, and a root without one
is an InvalidRequest.
"""

import json
from collections import OrderedDict
from threading import Lock
from typing import Any, Final

from dayspring.engines.llamacpp.grammar.arrays import Arrays
from dayspring.engines.llamacpp.grammar.exclusive import Exclusive
from dayspring.engines.llamacpp.grammar.expand import Expander
from dayspring.engines.llamacpp.grammar.expr import NEVER, Expr, Grammar, Lit, Ref, alt
from dayspring.engines.llamacpp.grammar.gbnf import to_gbnf
from dayspring.engines.llamacpp.grammar.judge import Judge
from dayspring.engines.llamacpp.grammar.language import Language
from dayspring.engines.llamacpp.grammar.limits import MAX_TEXT, Budget, bad_schema, refuse, too_complex, unsatisfiable
from dayspring.engines.llamacpp.grammar.numbers import number_rules
from dayspring.engines.llamacpp.grammar.objects import Objects
from dayspring.engines.llamacpp.grammar.schema import Node, Schema, check_size
from dayspring.engines.llamacpp.grammar.shape import TYPES, Shape, type_of
from dayspring.engines.llamacpp.grammar.strings import Strings
from dayspring.engines.llamacpp.grammar.values import AnyValue, one_of

__all__ = ["compile_schema", "to_grammar"]

_CACHE_SIZE: Final = 256
_cache: OrderedDict[str, str] = OrderedDict()  # one for the process: a grammar depends on nothing but its schema
_cache_lock: Final = Lock()


def compile_schema(schema: dict[str, Any] | bool) -> str:
    """GBNF that accepts only JSON texts valid against `schema` (draft 2020-12, or 4 to 7 where they differ in form).

    Texts are compact, with at most one space after ':' and ','. Raises UnsupportedParameter naming the keyword and its
    JSON pointer for what cannot be enforced exactly, InvalidRequest for what is no schema or has no valid instance.
    """
    check_size(schema)
    # The order of properties is the order generated, so it is part of the key.
    text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    if len(text) > MAX_TEXT:
        raise too_complex(f"it is over {MAX_TEXT} characters")
    with _cache_lock:
        known = _cache.get(text)
        if known is not None:
            _cache.move_to_end(text)
            return known
    made = to_gbnf(to_grammar(schema))
    with _cache_lock:
        _cache[text] = made
        while len(_cache) > _CACHE_SIZE:
            _cache.popitem(last=False)
    return made


def to_grammar(schema: dict[str, Any] | bool) -> Grammar:
    """The same as expressions, pruned. Not cached."""
    check_size(schema)
    if not isinstance(schema, dict | bool):
        raise bad_schema("", "a schema must be an object or a boolean")
    try:
        return _Compiler(schema).grammar()
    except RecursionError:
        # A long pattern is a deep term; what is nested in the schema itself is bounded by check_size.
        raise too_complex("one of its patterns is nested too deeply") from None


class _Compiler:
    def __init__(self, document: Any) -> None:
        budget = Budget()
        self._grammar = Grammar()
        self._schema = Schema(document)
        self._expander = Expander(self._schema, budget, self._one_of)
        self._strings = Strings(self._grammar, Language(budget))
        self._judge = Judge(self._strings, budget, self._expander)
        self._exclusive = Exclusive(self._schema, budget, self._expander, self._judge)
        self._any: AnyValue | None = None
        self._queue: list[tuple[Ref, list[Node]]] = []
        self._known: dict[tuple[str, ...], Ref] = {}
        self._objects = Objects(
            self._grammar, self._strings, self.value, self._judge.accepts, lambda: self._any_value().object()
        )
        self._arrays = Arrays(self._grammar, self.value, self._judge.finite)

    def grammar(self) -> Grammar:
        root = self.value([self._schema.root])
        narrowed: dict[str, str | None] = {}
        while self._queue:
            ref, goal = self._queue.pop()
            self._grammar.rules[ref.name] = alt(*(self._conjunction(nodes) for nodes in self._expander.expand(goal)))
            narrowed[ref.name] = self._exclusive.take_narrowed()
        self._grammar.rules["root"] = root
        productive = self._grammar.productive()
        for name, pointer in narrowed.items():
            if pointer is not None and name not in productive:
                raise refuse("oneOf", pointer, "its branches are not provably exclusive")
        pruned = self._grammar.pruned()
        if pruned.rules["root"] == NEVER:
            raise unsatisfiable()
        return pruned

    def _one_of(self, node: Node) -> list[list[Node]]:
        return self._exclusive.options(node)

    def value(self, goal: list[Node]) -> Expr:
        """The rule of values that satisfy all these schemas."""
        if any(node.schema is False for node in goal):
            return NEVER
        wanted = {node.key: node for node in goal if node.schema is not True}
        if not wanted:
            return self._any_value().rule()
        key = tuple(sorted(wanted))
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._grammar.reserve("v")
            self._queue.append((known, list(wanted.values())))
        return known

    def _any_value(self) -> AnyValue:
        if self._any is None:
            number = self._grammar.add(number_rules(self._grammar, Shape([])), "number")
            self._any = AnyValue(self._grammar, self._strings.char(), number)
        return self._any

    def _conjunction(self, nodes: list[Node]) -> Expr:
        shape = Shape(nodes)
        if shape.values is not None:
            return one_of(value for value in shape.values if self._judge.satisfies(shape, value))
        if not nodes or (shape.implied == frozenset(TYPES) and not shape.excluded):
            return self._any_value().rule()
        return alt(*(self._typed(kind, shape) for kind in TYPES if kind in shape.implied))

    def _typed(self, kind: str, shape: Shape) -> Expr:
        if kind in ("object", "array") and any(type_of(value) == kind for value in shape.excluded.values()):
            raise refuse("not", shape.pointer, f"one {kind} cannot be kept out of many")
        match kind:
            case "object":
                return self._objects.rules(shape)
            case "array":
                return self._arrays.rules(shape)
            case "string":
                return self._strings.rules(shape)
            case "number":
                return number_rules(self._grammar, shape)
            case "boolean":
                return alt(*(Lit(text) for text in ("true", "false") if text not in shape.excluded))
            case _:
                return NEVER if "null" in shape.excluded else Lit("null")
