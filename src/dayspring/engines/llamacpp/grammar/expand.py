"""From subschemas that hold together to alternatives without combinators.

`Expander.expand` takes schemas that all apply to one instance, and gives a list of conjunctions: lists of plain schemas
whose `allOf`, `$ref`, `anyOf`, `oneOf`, `if`, `not` and dependencies have been followed and multiplied out. An instance
is valid if one conjunction holds; none: the schema is false.
What holds: a reference that comes back to itself without going into the instance is an InvalidRequest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dayspring.engines.llamacpp.grammar.limits import MAX_BRANCHES, Budget, bad_schema, refuse, too_complex
from dayspring.engines.llamacpp.grammar.negate import DENIES, negations
from dayspring.engines.llamacpp.grammar.schema import Node, Schema

__all__ = ["Conjunction", "Expander"]

Conjunction = list[Node]
Option = list[Node]


@dataclass(slots=True)
class Choice:
    """At least one of the options holds; an option is schemas that hold together."""

    options: list[Option]


_REFUSED = ("$dynamicRef", "$recursiveRef", "contains", "contentSchema")


class Expander:
    """`one_of` gives the options of a node's oneOf, made exclusive."""

    def __init__(self, schema: Schema, budget: Budget, one_of: Callable[[Node], list[Option]]) -> None:
        self._schema = schema
        self._budget = budget
        self._one_of = one_of

    def expand(self, nodes: list[Node], *, above: bool = False) -> list[Conjunction]:
        """The alternatives of these schemas together; none holds for an instance that is not valid. `above`: instead,
        one holds for every instance that is valid. Raises UnsupportedParameter, InvalidRequest.
        """
        done: list[Conjunction] = []
        pending: list[tuple[list[Node | Choice], Conjunction]] = [(list(reversed(nodes)), [])]
        while pending:
            todo, leaves = pending.pop()
            choice = self._follow(todo, leaves, above)
            if choice is None:
                continue
            if not choice.options:
                done.append(leaves)
            pending.extend(([*todo, *reversed(option)], list(leaves)) for option in reversed(choice.options))
            if len(done) + len(pending) > MAX_BRANCHES:
                raise too_complex(f"its alternatives multiply to over {MAX_BRANCHES}")
        return done

    def _follow(self, todo: list[Node | Choice], leaves: Conjunction, above: bool) -> Choice | None:
        """Add to `leaves` until a choice must be made, which is returned; one without options: all is done; None:
        this conjunction is false."""
        held = {leaf.key for leaf in leaves}
        while todo:
            self._budget.spend()
            node = todo.pop()
            if isinstance(node, Choice):
                return node if node.options else None
            if node.key in node.within:
                raise bad_schema(node.pointer, "a reference comes back to it without going into the instance")
            if node.schema is False:
                return None
            if node.key in held or node.schema is True:
                continue
            if not isinstance(node.schema, dict):
                raise bad_schema(node.pointer, "a schema must be an object or a boolean")
            if isinstance(node.schema.get("items"), list) and not self._schema.has_item_lists:
                raise node.bad("items", "a schema: a list of them is prefixItems, unless $schema names an older draft")
            held.add(node.key)
            leaves.append(node)
            # Choices wait at the bottom, so that what is false whatever they are is seen first.
            todo[:0] = [Choice(options) for options in reversed(self._choices(node, above))]
            todo.extend(reversed(self._same_instance(node)))
        return Choice([])

    def _same_instance(self, node: Node) -> list[Node]:
        """What must hold beside this node's own keywords."""
        for keyword in _REFUSED:
            if node.has(keyword) and not (keyword == "contains" and _contains_nothing(node)):
                raise refuse(keyword, node.pointer, "a grammar cannot express it")
        nodes = []
        if node.has("$ref"):
            nodes.append(self._schema.resolve(node, "$ref"))
        return nodes + node.choices("allOf")

    def _choices(self, node: Node, above: bool) -> list[list[Option]]:
        choices: list[list[Option]] = []
        if node.has("anyOf"):
            choices.append([[branch] for branch in node.choices("anyOf")])
        if node.has("oneOf"):
            choices.append([[branch] for branch in node.choices("oneOf")] if above else self._one_of(node))
        choices.extend(self._dependencies(node))
        if above:
            return choices
        denied = (keyword for keyword in ("not", DENIES) if node.has(keyword))
        choices.extend(self._not(node, node.inner(node.child(keyword)), keyword) for keyword in denied)
        if node.has("if") and (node.has("then") or node.has("else")):
            condition = node.inner(node.child("if"))
            then = [node.inner(node.child("then"))] if node.has("then") else []
            otherwise = [node.inner(node.child("else"))] if node.has("else") else []
            choices.append(
                [[condition, *then], *([*option, *otherwise] for option in self._not(node, condition, "if"))]
            )
        return choices

    def _not(self, node: Node, negated: Node, keyword: str) -> list[Option]:
        if keyword == DENIES:
            return negations(negated, self._schema, lambda reason: refuse("oneOf", node.pointer, reason), DENIES)
        return negations(negated, self._schema, lambda reason: refuse(keyword, node.pointer, reason))

    def _dependencies(self, node: Node) -> list[list[Option]]:
        choices = []
        for keyword in ("dependencies", "dependentRequired", "dependentSchemas"):
            members: dict[str, Any] = node.get(keyword, dict, "an object") or {}
            for name, value in members.items():
                absent = node.synthetic({"properties": {name: False}}, f"{keyword}/{name}/absent")
                if isinstance(value, list):
                    if not all(isinstance(wanted, str) for wanted in value):
                        raise node.bad(keyword, "an object of lists of names")
                    then = node.synthetic({"required": value}, f"{keyword}/{name}")
                else:
                    then = node.inner(node.child(keyword, name))
                choices.append([[absent], [then]])
        return choices


def _contains_nothing(node: Node) -> bool:
    return node.schema.get("minContains") == 0 and not node.has("maxContains")
