"""Check that a text fits into a text encoder's window of tokens. Free of torch."""

from __future__ import annotations

from tsq_cli.errors import UsageError


def check_text(text: str, num_tokens: int, most: int) -> None:
    """Refuse a text that cannot be embedded.

    Args:
        text: as given.
        num_tokens: of the text, special ones included.
        most: tokens at most that the encoder takes.

    Raises:
        UsageError: it is blank or too long.
    """
    if not text.strip():
        raise UsageError("a text to embed is blank", wanted="at least one word", fix="drop it or fill it in")
    if num_tokens > most:
        raise UsageError(
            f"a text of {num_tokens} tokens starting {text[:40]!r}", wanted=f"at most {most} tokens", fix="shorten it"
        )
