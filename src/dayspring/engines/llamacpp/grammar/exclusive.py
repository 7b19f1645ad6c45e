"""oneOf: branches of which exactly one may hold, as options that cannot both hold.

Branches that provably exclude each other are taken as they are. Where two may overlap, each gets what rules the other
out: the ways in which the other's keywords fail, or a property that the other does not allow. What is ruled out may be
more than is needed, never less; where nothing rules a branch out, oneOf is refused.
"""

from typing import Final

from dayspring.engines.llamacpp.grammar.expand import Conjunction, Expander, Option
from dayspring.engines.llamacpp.grammar.judge import Judge
from dayspring.engines.llamacpp.grammar.limits import MAX_BRANCHES, Budget, refuse, too_complex
from dayspring.engines.llamacpp.grammar.negate import DENIES, negations
from dayspring.engines.llamacpp.grammar.schema import Node, Schema

__all__ = ["Exclusive"]

_MAX_NAMES: Final = 8
_COMBINATORS: Final = frozenset(
    ("allOf", "$ref", "anyOf", "oneOf", "if", "then", "else", "not", DENIES, "dependencies", "dependentRequired",
     "dependentSchemas")
)  # fmt: skip


class Exclusive:
    """Remembers whether a oneOf lost more than the overlap of its branches."""

    def __init__(self, schema: Schema, budget: Budget, expander: Expander, judge: Judge) -> None:
        self._schema = schema
        self._budget = budget
        self._expander = expander
        self._judge = judge
        self._excluded: dict[tuple[str, str], bool] = {}
        self._narrowed: str | None = None

    def options(self, node: Node) -> list[Option]:
        """The options of the node's oneOf. Raises UnsupportedParameter."""
        branches = node.choices("oneOf")
        bare = {keyword: value for keyword, value in node.schema.items() if keyword not in _COMBINATORS}
        context = node.synthetic(bare, "bare")
        options: list[Option] = []
        for branch in branches:
            made: list[Option] = [[branch]]
            for other in branches:
                if other is branch or self._excludes(context, branch, other):
                    continue
                denials = self._denials(node, branch, other)
                self._budget.spend(len(made) * len(denials))
                made = [[*held, *denial] for held in made for denial in denials]
                if len(made) > MAX_BRANCHES:
                    raise too_complex(f"its alternatives multiply to over {MAX_BRANCHES}")
            options.extend(made)
        return options

    def take_narrowed(self) -> str | None:
        """The pointer of the last such oneOf since this was asked, if there was one: should nothing be left of the
        schemas it stands in, it is to be refused, for they may still be satisfiable.
        """
        pointer, self._narrowed = self._narrowed, None
        return pointer

    def _excludes(self, context: Node, branch: Node, other: Node) -> bool:
        key = (branch.key, other.key) if branch.key < other.key else (other.key, branch.key)
        known = self._excluded.get(key)
        if known is None:
            known = self._excluded[key] = self._judge.excludes([context, branch], [context, other])
        return known

    def _denials(self, node: Node, branch: Node, other: Node) -> list[Option]:
        """Options, each of which rules `other` out."""
        self._narrowed = node.pointer
        beyond = self._beyond(branch, other)
        if beyond:
            return beyond
        reason = "its branches are not provably exclusive"
        return negations(other, self._schema, lambda _: refuse("oneOf", node.pointer, reason), DENIES)

    def _beyond(self, branch: Node, other: Node) -> list[Option]:
        """A property of `branch` that `other`, which is closed, does not have."""
        mine, theirs = (self._expander.expand([side], above=True) for side in (branch, other))
        if len(mine) != 1 or len(theirs) != 1:
            return []
        allowed = _closed(theirs[0])
        own = [name for node in mine[0] for name in node.members("properties")]
        fresh = [name for name in dict.fromkeys(own) if allowed is not None and name not in allowed]
        if not fresh:
            return []
        if len(fresh) == len(set(own)) and _closed(mine[0]) is not None:
            return [[branch.synthetic({"type": "object", "minProperties": 1}, f"some/{other.key}")]]
        return [
            [branch.synthetic({"type": "object", "required": [name]}, f"with/{name}")] for name in fresh[:_MAX_NAMES]
        ]


def _closed(nodes: Conjunction) -> set[str] | None:
    """The only names an object may have under these schemas, if one of them says so."""
    for node in nodes:
        if node.has("additionalProperties") and node.schema["additionalProperties"] is False:
            return None if node.has("patternProperties") else set(node.members("properties"))
    return None
