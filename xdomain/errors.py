"""The one exception that a user is meant to read, and the words that its sentences share."""

import difflib
import textwrap
from collections.abc import Iterable


class UserError(Exception):
    """Bad input, told in one sentence that names the file, key or value and the way out.

    The command line prints its text and exits with status 2; no traceback is shown.
    """


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a sentence about an unknown word: the nearest known one, or else the given text."""
    nearest = difflib.get_close_matches(word, list(known), n=1)
    return f": did you mean {nearest[0]}?" if nearest else otherwise or "."


def choice(words: Iterable[str]) -> str:
    """``a, b or c``."""
    *most, last = dict.fromkeys(words)
    return f"{', '.join(most)} or {last}" if most else last


def refusal(error: BaseException) -> UserError:
    """Why a class refused its settings, out of what parsers wrap around its error."""
    while error.__cause__ is not None and not isinstance(error, UserError):
        error = error.__cause__
    if isinstance(error, UserError):
        return UserError(str(error))
    return UserError(f"a setting is refused: {textwrap.shorten(str(error), 300, placeholder=' ...').rstrip('.')}.")
