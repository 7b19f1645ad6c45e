"""Print a Grammar as GBNF, llama.cpp's grammar text.

llama.cpp multiplies out `x{m,n}` and refuses a rule that repeats over some 2,000 elements, so no repetition operator is
printed at all: a repetition becomes rules of its own whose number grows with the logarithm of the bound, and which keep
at most three parse stacks alive.
"""

from typing import Final

from dayspring.engines.llamacpp.grammar.expr import Alt, Chars, Expr, Grammar, Lit, Ref, Repeat, Seq

__all__ = ["to_gbnf"]

_BLOCK: Final = 64
_IN_CLASS: Final = '[]\\-^"'
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "]": "\\]", "[": "\\["}


def to_gbnf(grammar: Grammar) -> str:
    """GBNF text whose start rule is `root`."""
    return _Printer(grammar).print()


class _Printer:
    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.lines: list[str] = []
        self.shared: dict[tuple[str, int, str], str] = {}

    def print(self) -> str:
        if self.grammar.root != "root":
            self.lines.append(f"root ::= {self.grammar.root}")
        for name, rule in self.grammar.rules.items():
            self.lines.append(f"{name} ::= {self.choice(rule)}")
        return "\n".join(self.lines) + "\n"

    def choice(self, rule: Expr) -> str:
        if isinstance(rule, Alt):
            # GBNF has no alternative that matches nothing; pruned grammars have none.
            return " | ".join(self.sequence(item) for item in rule.items)
        return self.sequence(rule)

    def sequence(self, rule: Expr) -> str:
        if isinstance(rule, Seq):
            return " ".join(self.item(item) for item in rule.items)
        return self.item(rule)

    def item(self, rule: Expr) -> str:
        match rule:
            case Lit(text):
                return '"' + "".join(_char(char, '"\\') for char in text) + '"'
            case Chars(ranges):
                return "[" + "".join(_range(low, high) for low, high in ranges) + "]"
            case Ref(name):
                return name
            case Repeat(item, least, most):
                return self.repeat(self.named(item), least, most)
            case _:
                return f"({self.choice(rule)})"

    def named(self, item: Expr) -> str:
        """What is repeated is printed once: a set, a name, or a rule of its own."""
        text = self.item(item)
        if isinstance(item, Ref | Chars):
            return text
        return self.shared.get(("one", 1, text)) or self.rule("one", 1, text, text)

    def rule(self, kind: str, count: int, item: str, body: str) -> str:
        name = self.shared[kind, count, item] = f"n{len(self.shared)}"
        self.lines.append(f"{name} ::= {body}")
        return name

    def repeat(self, item: str, least: int, most: int | None) -> str:
        head = [self.exactly(item, least)] if least else []
        if most is None:
            known = self.shared.get(("any", 0, item))
            if known is None:
                known = f"n{len(self.shared)}"
                self.rule("any", 0, item, f'{item} {known} | ""')
            head.append(known)
        elif most > least:
            head.append(self.at_most(item, most - least))
        return " ".join(head) or '""'

    def exactly(self, item: str, count: int) -> str:
        if count == 1:
            return item
        known = self.shared.get(("exactly", count, item))
        if known is not None:
            return known
        half = self.exactly(item, count // 2)
        return self.rule("exactly", count, item, f"{half} {half}{f' {item}' if count % 2 else ''}")

    def at_most(self, item: str, count: int) -> str:
        """0 to `count`: a chain of blocks, then a chain of items, so that a prefix has few ways to be read."""
        block = 1
        while count >= block * _BLOCK:
            block *= _BLOCK
        start = count % block
        name = self.shared.get(("most", start, item)) or (self.at_most(item, start) if start else "")
        full = self.exactly(item, block)
        less = self.at_most(item, block - 1) if block > 1 else '""'
        for size in range(start + block, count + 1, block):
            known = self.shared.get(("most", size, item))
            name = known or self.rule("most", size, item, f"{full} {name} | {less}" if name else f"{full} | {less}")
        return name


def _char(char: str, special: str) -> str:
    if char in special or char in "\n\r\t":
        return _ESCAPES[char] if char in _ESCAPES else f"\\x{ord(char):02X}"
    point = ord(char)
    if 0x20 <= point < 0x7F:
        return char
    if point <= 0xFF:
        return f"\\x{point:02X}"
    return f"\\u{point:04X}" if point <= 0xFFFF else f"\\U{point:08X}"


def _range(low: int, high: int) -> str:
    first, last = (_char(chr(point), _IN_CLASS) for point in (low, high))
    if low == high:
        return first
    return f"{first}-{last}" if high > low + 1 else first + last
