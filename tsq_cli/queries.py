"""Free text queries: "this and that", "not that", taken apart into the texts to match frames with (ours)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tsq_cli.errors import UsageError

_TOKEN = re.compile(r'"([^"]*)"|(\S+)')
_JOINING, _NEGATING = {"and", "but"}, {"not", "without"}


@dataclass(frozen=True, kw_only=True)
class Query:
    """One query, taken apart.

    Attributes:
        text: as the user gave it.
        all_of: texts that a frame must match, all of them.
        none_of: texts that it must not match.
    """

    text: str
    all_of: tuple[str, ...] = ()
    none_of: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """The texts to match frames with."""
        return (*self.all_of, *self.none_of)


def parse_query(text: str) -> Query:
    """Take a query apart at the words and, but, not and without; what stands in double quotes stays together.

    Example:
        >>> parse_query("a dog and a ball, not a cat").all_of
        ('a dog', 'a ball')
        >>> parse_query('"black and white" cat').all_of
        ('black and white cat',)

    Raises:
        UsageError: no text, text that cannot be encoded, or a part without words.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"the query {text!a} has bytes that are no text", wanted="words in UTF-8", fix="type it anew"
        ) from error
    if not text.strip():
        raise UsageError("the query is empty", wanted="a few words", fix='try --query "a dog"')
    parts: list[tuple[bool, list[str]]] = [(False, [])]
    for quoted, word in _TOKEN.findall(text):
        lowered = word.lower().rstrip(",;")
        if lowered in _NEGATING:
            if parts[-1][1]:
                parts.append((True, []))
            else:
                parts[-1] = (not parts[-1][0], [])
        elif lowered in _JOINING and parts[-1][1]:
            parts.append((False, []))
        else:
            parts[-1][1].append(quoted or word)
    spoken = [(is_negated, " ".join(words).strip(" ,;")) for is_negated, words in parts]
    if any(not said for _, said in spoken):
        raise UsageError(
            f"the query {text!r} has a part without words",
            wanted='words on both sides of "and", and after "not"',
            fix="put a text that contains these words in double quotes",
        )
    return Query(
        text=text,
        all_of=tuple(said for is_negated, said in spoken if not is_negated),
        none_of=tuple(said for is_negated, said in spoken if is_negated),
    )
