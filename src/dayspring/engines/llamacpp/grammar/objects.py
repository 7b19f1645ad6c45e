"""JSON objects in a conjunction: declared properties in the order written, then keys of patternProperties and
additionalProperties that are none of the declared ones.

What holds: the rules are a chain whose length is the number of properties (times the sizes still to be told apart, with
minProperties or maxProperties). Keys beyond the declared ones are generated only where the schema speaks of them, or
declares none; two such keys may be equal, so they count as one for minProperties.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dayspring.engines.llamacpp.grammar.expr import EMPTY, NEVER, Expr, Grammar, Lit, Ref, Repeat, alt, seq
from dayspring.engines.llamacpp.grammar.language import Term
from dayspring.engines.llamacpp.grammar.limits import refuse
from dayspring.engines.llamacpp.grammar.schema import Node
from dayspring.engines.llamacpp.grammar.shape import Shape
from dayspring.engines.llamacpp.grammar.strings import Strings, bounds
from dayspring.engines.llamacpp.grammar.values import COLON, COMMA, key_text

__all__ = ["Objects", "Properties"]

Goal = list[Node]
MAX_KEY = 64
"""Characters of a generated key."""


@dataclass(frozen=True, slots=True)
class Extra:
    """Keys beyond the declared ones, and what their values must satisfy."""

    keys: Term
    goal: Goal


class Properties:
    """What the object keywords of one conjunction say, node by node."""

    def __init__(self, shape: Shape, strings: Strings, accepts: Callable[[Goal, str], bool]) -> None:
        self.shape = shape
        self._strings = strings
        self._accepts = accepts
        self.declared = {node.key: node.members("properties") for node in shape.nodes}
        self.patterns = {node.key: node.members("patternProperties") for node in shape.nodes}
        self.required = list(dict.fromkeys(name for node in shape.nodes for name in node.names("required")))
        self.names = list(
            dict.fromkeys([name for members in self.declared.values() for name in members] + self.required)
        )
        self.closed = [(node.key, inner) for node in shape.nodes if (inner := _unevaluated(node)) is not None]

    def goal(self, name: str, *, sure: bool = False) -> Goal | None:
        """What the value under this name must satisfy; None: the name must be absent. Where it cannot be told whether
        a schema applies, it is taken to, or, with `sure`, not to."""
        found: Goal = []
        for node in self.shape.nodes:
            members = self.declared[node.key]
            matched = [members[name]] if name in members else []
            surely, perhaps = bool(matched), bool(matched)
            for pattern, inner in self.patterns[node.key].items():
                below, above = self._matches(node, pattern, name)
                surely, perhaps = surely or below, perhaps or above
                if below or (above and not sure):
                    matched.append(inner)
            if node.has("additionalProperties") and not (perhaps if sure else surely):
                matched.append(node.child("additionalProperties"))
            found.extend(matched)
            if not sure and node.has("propertyNames") and not self._accepts([node.child("propertyNames")], name):
                return None
        if any(node.schema is False for node in found) or not (sure or self._evaluated(name)):
            return None
        return found

    def _matches(self, node: Node, pattern: str, name: str) -> tuple[bool, bool]:
        """Whether the name surely, and whether it perhaps, matches a pattern of patternProperties."""
        patterns, language = self._strings.patterns, self._strings.language
        below = patterns.below(pattern, node.pointer, "patternProperties")
        above = patterns.above(pattern, node.pointer, "patternProperties")
        return language.accepts(below, name), language.accepts(above, name)

    def _evaluated(self, name: str) -> bool:
        """unevaluatedProperties false: one of the schemas it covers must declare the name."""
        return all(
            any(
                name in self.declared[node.key] or node.has("additionalProperties")
                for node in self.shape.nodes
                if node.key == key or key in node.within
            )
            for key, _ in self.closed
        )

    def extras(self) -> list[Extra]:
        """Keys that may follow the declared ones."""
        language = self._strings.language
        nodes = self.shape.nodes
        additional = {
            node.key: node.child("additionalProperties") for node in nodes if node.has("additionalProperties")
        }
        patterns = [(node, pattern, inner) for node in nodes for pattern, inner in self.patterns[node.key].items()]
        for _, covered in self.closed:
            if not any(node.has("additionalProperties") and covered.key in {*node.within, node.key} for node in nodes):
                return []
        if not additional and not patterns and self.names:
            return []
        base = [
            language.negate(language.whole(language.words(frozenset(self.names)))),
            language.whole(language.repeat(language.any_char, 1, MAX_KEY)),
            *self._key_terms(),
        ]
        above = [
            self._strings.patterns.above(pattern, node.pointer, "patternProperties") for node, pattern, _ in patterns
        ]
        found = []
        for index, (owner, pattern, inner) in enumerate(patterns):
            others = [language.negate(term) for at, term in enumerate(above) if at != index]
            mine = self._strings.patterns.below(pattern, owner.pointer, "patternProperties")
            goal = [inner, *(node for key, node in additional.items() if key != owner.key)]
            found.append(Extra(language.both(*base, mine, *others), goal))
        if additional or not patterns:
            keys = language.both(*base, *(language.negate(term) for term in above))
            found.append(Extra(keys, list(additional.values())))
        return [extra for extra in found if not any(node.schema is False for node in extra.goal)]

    def _key_terms(self) -> list[Term]:
        terms = []
        for node in self.shape.with_keyword("propertyNames"):
            names = node.child("propertyNames")
            if isinstance(names.schema, bool):
                terms.append(self._strings.language.anything if names.schema else self._strings.language.never)
                continue
            shape = Shape([names])
            wanted = set(names.schema) if isinstance(names.schema, dict) else {"?"}
            if not wanted <= {
                "type",
                "minLength",
                "maxLength",
                "pattern",
                "format",
                "enum",
                "const",
                "title",
                "description",
            }:
                raise refuse(
                    "propertyNames", node.pointer, "only length, pattern, format and enum of a key are enforced"
                )
            language = self._strings.language
            least, most = bounds(shape, "minLength", "maxLength")
            term = self._strings.below(shape) or language.whole(language.repeat(language.any_char, least, most))
            if shape.values is not None:
                words = frozenset(value for value in shape.values if isinstance(value, str))
                term = language.both(term, language.whole(language.words(words)))
            terms.append(term)
        return terms


def _unevaluated(node: Node) -> Node | None:
    if not node.has("unevaluatedProperties") or node.schema["unevaluatedProperties"] is True:
        return None
    if node.schema["unevaluatedProperties"] is not False:
        raise refuse("unevaluatedProperties", node.pointer, "only true and false are enforced")
    return node


class Objects:
    """Object rules of one grammar. `value` gives the rule for what a value must satisfy."""

    def __init__(
        self,
        grammar: Grammar,
        strings: Strings,
        value: Callable[[Goal], Expr],
        accepts: Callable[[Goal, str], bool],
        any_object: Callable[[], Expr],
    ) -> None:
        self._grammar = grammar
        self._strings = strings
        self._value = value
        self._accepts = accepts
        self._any_object = any_object

    def rules(self, shape: Shape) -> Expr:
        properties = Properties(shape, self._strings, self._accepts)
        least, most = bounds(shape, "minProperties", "maxProperties")
        goals = [(name, properties.goal(name)) for name in properties.names]
        if any(goal is None and name in properties.required for name, goal in goals):
            return NEVER
        extras = properties.extras()
        if not goals and _is_free(extras) and least <= 0 and most is None and not shape.with_keyword("propertyNames"):
            return self._any_object()
        members = [
            (seq(Lit(key_text(name)), COLON, self._value(goal)), name in properties.required)
            for name, goal in goals
            if goal is not None
        ]
        extra = self._extra_rule(extras)
        self._check_least(shape, least, len(members), extra)
        return _Chain(self._grammar, members, extra, least, most).rule()

    def _extra_rule(self, extras: list[Extra]) -> Expr:
        if not extras:
            return NEVER
        made = (seq(self._strings.inside(one.keys), Lit('"'), COLON, self._value(one.goal)) for one in extras)
        return self._grammar.add(alt(*made), "extra")

    def _check_least(self, shape: Shape, least: int, declared: int, extra: Expr) -> None:
        if least > declared + (extra != NEVER) and extra != NEVER:
            pointer = next(node.pointer for node in shape.with_keyword("minProperties"))
            raise refuse("minProperties", pointer, "keys that the schema does not name cannot be kept from repeating")


def _is_free(extras: list[Extra]) -> bool:
    return len(extras) == 1 and all(node.schema in (True, {}) for node in extras[0].goal)


class _Chain:
    """Members in order. In `body` a member must come, its opening quote already written; in `tail` one may."""

    def __init__(
        self, grammar: Grammar, members: list[tuple[Expr, bool]], extra: Expr, least: int, most: int | None
    ) -> None:
        self._grammar = grammar
        self._members = members
        self._extra = extra
        needed = sum(required for _, required in members)
        self._least = 0 if least <= needed else least
        self._most = None if extra == NEVER and most is not None and most >= len(members) else most
        self._counts = bool(self._least) or self._most is not None
        self._bodies: dict[tuple[int, int], Ref] = {}
        self._tails: dict[tuple[int, int], Ref] = {}

    def rule(self) -> Expr:
        """The whole object."""
        count = len(self._members)
        for at in range(count, -1, -1):
            for had in range(at, -1, -1) if self._counts else (0,):
                self._bodies[at, had] = self._grammar.add(self._body(at, had), "b")
                self._tails[at, had] = self._grammar.add(self._tail(at, had), "t")
        inside = seq(Lit('"'), self._bodies[0, 0])
        return seq(Lit("{"), alt(inside, EMPTY) if self._may_end(0, 0) else inside, Lit("}"))

    def _may_end(self, at: int, had: int) -> bool:
        return had >= self._least and not any(required for _, required in self._members[at:])

    def _body(self, at: int, had: int) -> Expr:
        if self._most is not None and had >= self._most:
            return NEVER
        if at == len(self._members):
            return self._extras(had)
        member, required = self._members[at]
        taken = seq(member, self._tails[at + 1, had + 1 if self._counts else 0])
        return taken if required else alt(taken, self._bodies[at + 1, had])

    def _tail(self, at: int, had: int) -> Expr:
        more = seq(COMMA, Lit('"'), self._bodies[at, had])
        return alt(more, EMPTY) if self._may_end(at, had) else more

    def _extras(self, had: int) -> Expr:
        if self._extra == NEVER or self._least - had > 1:
            return NEVER
        following = seq(COMMA, Lit('"'), self._extra)
        return seq(self._extra, Repeat(following, 0, None if self._most is None else self._most - had - 1))
