"""BERT's tokenisation, plainly: the twin that a converted vocabulary is checked against.

As in Devlin et al. 2018 (arxiv.org/abs/1810.04805) and its first release: clean, set CJK characters apart, lower and
strip accents, split at spaces and punctuation, then the longest piece first. Slow on purpose.
"""

import unicodedata
from collections.abc import Sequence

__all__ = ["WordPiece"]

_MAX_WORD = 100
_CJK = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class WordPiece:
    """`vocabulary` in the order of ids; `##` marks a piece inside a word."""

    def __init__(self, vocabulary: Sequence[str], *, lower: bool = True) -> None:
        self._ids = {piece: index for index, piece in enumerate(vocabulary)}
        self._lower = lower
        self._unknown, self._first, self._last = (self._ids[name] for name in ("[UNK]", "[CLS]", "[SEP]"))

    def encode(self, text: str, limit: int) -> list[int]:
        """Ids with [CLS] before and [SEP] after, at most `limit` of them."""
        ids = [piece for word in self._words(text) for piece in self._pieces(word)]
        return [self._first, *ids[: limit - 2], self._last]

    def _words(self, text: str) -> list[str]:
        spaced = []
        for character in text:
            category = unicodedata.category(character)
            if character in "\t\n\r" or category == "Zs":
                spaced.append(" ")
            elif character in "\0\ufffd" or category.startswith("C"):
                continue
            elif _is_cjk(character):
                spaced.append(f" {character} ")
            else:
                spaced.append(character)
        text = "".join(spaced)
        if self._lower:
            text = "".join(
                mark for mark in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(mark) != "Mn"
            )
        return "".join(f" {mark} " if _is_punctuation(mark) else mark for mark in text).split()

    def _pieces(self, word: str) -> list[int]:
        if len(word) > _MAX_WORD:
            return [self._unknown]
        found, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = ("##" if start else "") + word[start:end]
                if piece in self._ids:
                    found.append(self._ids[piece])
                    start = end
                    break
            else:
                return [self._unknown]
        return found


def _is_cjk(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in _CJK)


def _is_punctuation(character: str) -> bool:
    code = ord(character)
    ascii_mark = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
    return ascii_mark or unicodedata.category(character).startswith("P")
