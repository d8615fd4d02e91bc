"""The medium of text: lines or captions, cut into words or characters and stored as the numbers of a vocabulary."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from gan_lib.core.errors import Rejected
from gan_lib.dataset import schema
from gan_lib.preprocessing.media.medium import Decoded, Medium, Rules

SPECIAL_TOKENS = ("<pad>", "<unk>", "<s>", "</s>")
"""The first tokens of every vocabulary: filling, what the vocabulary does not know, begin and end of a text."""
PAD, UNKNOWN, BEGIN, END = range(4)

_WORD = re.compile(r"\w+|[^\w\s]")  # a run of letters and digits, or one other sign


class TokensMedium(Medium):
    """Text in UTF-8 as int32 numbers of tokens.

    The vocabulary is counted on the cluster over the texts of the training split, before any is encoded, and is kept
    in the manifest; later versions of the dataset keep it.
    """

    kind: Literal["tokens"]
    level: Literal["word", "character"] = "word"
    """words are runs of letters and digits, and other signs one by one; spaces count only between characters"""
    lowercase: bool = False
    """make no difference between A and a"""
    mark_ends: bool = True
    """begin each text with <s> and end it with </s>"""
    length: int | None = Field(default=None, gt=0)
    """tokens in every row, filled with <pad>, a longer text being cut; null keeps each text's own number of tokens"""
    min_count: int = Field(default=1, gt=0)
    """how often a token must occur to get a number of its own; the others become <unk>"""
    max_size: int | None = Field(default=None, gt=len(SPECIAL_TOKENS))
    """most tokens in the vocabulary, special ones included: the most frequent ones"""
    vocabulary: list[str] = Field(default=[])
    """tokens in the order of their numbers, where they are known beforehand; the special ones need not be named"""

    @field_validator("vocabulary")
    @classmethod
    def _distinct_and_special_first(cls, tokens: list[str]) -> list[str]:
        if len(set(tokens)) != len(tokens):
            raise ValueError("each token may be named once only")
        if not tokens or tuple(tokens[: len(SPECIAL_TOKENS)]) == SPECIAL_TOKENS:
            return tokens
        return [*SPECIAL_TOKENS, *(token for token in tokens if token not in SPECIAL_TOKENS)]

    def tokens(self, text: str) -> list[str]:
        """The tokens of a text, without marks of its ends."""
        text = unicodedata.normalize("NFC", text.strip())
        text = text.lower() if self.lowercase else text
        return _WORD.findall(text) if self.level == "word" else list(text)

    def vocabulary_of(self, counts: Iterable[tuple[str, int]]) -> list[str]:
        """Token counts -> the vocabulary: special tokens, then the most frequent first, equals in their order."""
        kept = [(-count, token) for token, count in counts if count >= self.min_count and token not in SPECIAL_TOKENS]
        room = None if self.max_size is None else self.max_size - len(SPECIAL_TOKENS)
        return [*SPECIAL_TOKENS, *(token for _, token in sorted(kept)[:room])]

    def counts(self, texts: Iterable[str]) -> Counter[str]:
        """How often each token occurs."""
        return Counter(token for text in texts for token in self.tokens(text))

    def encode(self, text: str) -> NDArray[np.int32]:
        """The numbers of a text's tokens.

        Raises:
            Rejected: ``empty`` when there are none.
        """
        numbers = [self._numbers.get(token, UNKNOWN) for token in self.tokens(text)]
        if not numbers:
            raise Rejected("empty", "the text holds no token")
        if self.mark_ends:
            numbers = [BEGIN, *numbers, END]
        if self.length is not None:
            numbers = numbers[: self.length] + [PAD] * (self.length - len(numbers))
        return np.array(numbers, np.int32)

    def decode(self, content: bytes, rules: Rules) -> Decoded:
        values = self.encode(text_of(content))
        return Decoded(values, length=int(np.count_nonzero(values != PAD)))

    def field(self, name: str, rules: Rules) -> schema.Field:
        if self.length is None:
            return schema.ListField(name, "int32")
        return schema.ArrayField(name, "int32", (self.length,))

    def meaning(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary}

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.vocabulary)}


def text_of(content: bytes) -> str:
    """The text in ``content``.

    Raises:
        Rejected: ``not-utf8``.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Rejected("not-utf8", str(error)) from None
