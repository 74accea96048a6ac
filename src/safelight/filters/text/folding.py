"""Folding: normalises a prompt to plain lower-case letters and maps each back to the original characters.

Case, accents, invisible characters and look-alikes of other scripts are folded. The folded text is used for
detection only; what is shown, logged or generated is always the original.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from functools import cache
from itertools import accumulate

from confusable_homoglyphs.confusables import confusables_data

from safelight.errors import FilterError
from safelight.filters.text.decoding import Decoded
from safelight.types import Span

# The longest prompts that image models read have about 1,000 tokens, or 5,000 characters.
MAX_LENGTH = 10_000
_CACHE_SIZE = 1 << 16

# Look-alikes that are missing in Unicode's list of confusables (TR39), or in it as capitals only.
_SMALL_CAPITALS = dict(zip("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnopqrstuvwyz", strict=True))
_TURNED = dict(zip("ɐɔǝɟƃɓɥᴉıɾʞʅɯɹʇʌʍʎ", "acefgghiijklmrtvwy", strict=True))
_LOOKALIKES = {
    "¢": "c",
    "ӏ": "l",
    "๏": "o",
    "ς": "c",
    "Ᏸ": "b",
    "᙭": "x",
    **dict(zip("кмтвнпїєκεητωβ", "kmtbhniekentwb", strict=True)),
    **_SMALL_CAPITALS,
    **_TURNED,
}
# Letters of these bidirectional classes belong to scripts that do not look like Latin.
_NON_LATIN_DIRECTIONS = frozenset({"R", "AL", "AN"})
# Combining classes of marks that make another letter of one: voicing marks, nuktas and viramas. All other
# marks are removed.
_KEPT_COMBINING_CLASSES = frozenset({0, 7, 8, 9})
_INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0\u0640\U0001d159"
)
_BREAKS = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x1f\x85")
# Common names for emoji whose Unicode name is uncommon.
_EMOJI_NAMES = {"\U0001f52a": "knife", "\U0001f5e1": "dagger", "\U0001f489": "syringe", "\U0001fa78": "blood"}

# What any other sign folds to, and the currency signs, which may stand for letters.
_SIGN = "*"
_MONEY = "€£¥"

TURNED_LETTERS = frozenset(_TURNED) - {"ı", "ɓ"}


class Folded:
    """A prompt (``original``) and its folded ``text``, computed in linear time.

    With ``emoji``, emoji are replaced by their names; without, by the same sign as punctuation. For a decoded
    prompt, ``original`` is the decoded text, and spans refer to the prompt before decoding. Raises
    ``FilterError`` if the folded text is longer than any image model reads; the name of an emoji can have up
    to about 80 letters.
    """

    def __init__(self, prompt: str | Decoded, emoji: bool = True) -> None:
        self._decoded = prompt if isinstance(prompt, Decoded) else None
        self.original = prompt if isinstance(prompt, str) else prompt.text
        self._table = _WITH_EMOJI if emoji else _WITHOUT_EMOJI
        self.text = self.original.translate(self._table)
        if len(self.text) > MAX_LENGTH:
            raise FilterError(
                f"the prompt has {len(self.text)} characters after normalisation; shorten it to {MAX_LENGTH}."
            )
        self._ends: list[int] | None = None

    def span(self, start: int, end: int) -> Span:
        """Return the span of the original prompt that was folded to ``text[start:end]``."""
        if self._ends is None:  # computed only for prompts with findings
            lengths = (len(self._table[ord(character)]) for character in self.original)
            self._ends = list(accumulate(lengths))
        left, right = bisect_right(self._ends, start), bisect_right(self._ends, end - 1) + 1
        return (
            self._decoded.span(left, right) if self._decoded else Span(left, right, self.original[left:right])
        )


def fold(text: str) -> str:
    """Return ``text`` folded as by :class:`Folded`, with emoji replaced by their names."""
    return text.translate(_WITH_EMOJI)


class _FoldingTable(dict[int, str]):
    """A cache from each code point to the text that it folds to."""

    def __init__(self, emoji: bool) -> None:
        super().__init__()
        self._emoji = emoji

    def __missing__(self, code: int) -> str:
        if len(self) > _CACHE_SIZE:
            self.clear()
        folded = self[code] = _fold(chr(code), self._emoji)
        return folded


_WITH_EMOJI, _WITHOUT_EMOJI = _FoldingTable(True), _FoldingTable(False)


def _fold(character: str, emoji: bool) -> str:
    """Fold one character.

    Without combining marks, NFKD does not depend on neighbouring characters, so each is folded by itself.
    """
    if character in _BREAKS:
        return " "
    if _folds_to_itself(character):
        return character
    if _is_emoji(character):
        return _emoji_name(character) if emoji else _SIGN
    plain = _without_marks(character)
    if plain.isascii():
        return plain
    # Some capitals look like other Latin letters than their small forms do: Greek Ν looks like N, ν like v.
    # The exception is I, whose capital looks like an l.
    lookalike = _lookalike(character)
    if lookalike and lookalike != "l":
        return lookalike
    return "".join(map(_ascii_lookalike, plain))


def _emoji_name(character: str) -> str:
    return f" {_EMOJI_NAMES.get(character) or unicodedata.name(character).casefold()} "


def _ascii_lookalike(letter: str) -> str:
    """Return the ASCII letters that ``letter`` looks like, ``*`` for a sign, or else the letter itself."""
    if lookalike := _lookalike(letter) or _lookalike(letter.upper()):
        return lookalike
    signs = unicodedata.category(letter)[0] in "PS" and letter not in _MONEY
    return _SIGN if signs or "\u02b9" <= letter <= "\u02ff" else letter


def _folds_to_itself(character: str) -> bool:
    """Return whether a character folds to itself: a fast check that covers most of Unicode.

    These are ideographs, syllables, and unassigned and private-use code points.
    """
    return (
        unicodedata.category(character) in ("Lo", "Cn", "Co")
        and not unicodedata.decomposition(character)
        and character not in confusables_data
        and character not in _INVISIBLE
        and not "\uac00" <= character <= "\ud7a3"  # Hangul syllables decompose algorithmically
    )


def _without_marks(character: str) -> str:
    """Return a character in compatibility form and lower case, without marks and invisible characters."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    return "".join(" " if letter.isspace() else letter for letter in decomposed if _is_visible(letter))


def _is_visible(letter: str) -> bool:
    category = unicodedata.category(letter)
    if category in ("Cc", "Cf", "Cs", "Me") or letter in _INVISIBLE or _is_variation_selector(letter):
        return False
    return unicodedata.combining(letter) in _KEPT_COMBINING_CLASSES


def _is_variation_selector(letter: str) -> bool:
    return "\ufe00" <= letter <= "\ufe0f" or "\U000e0100" <= letter <= "\U000e01ef"


def _is_emoji(character: str) -> bool:
    return character in _EMOJI_NAMES or (
        character > "\u2300"
        and unicodedata.category(character) == "So"
        and unicodedata.normalize("NFKD", character) == character
        and character not in _enclosed_letters()
        and bool(unicodedata.name(character, ""))
    )


def _lookalike(character: str) -> str:
    """Return the ASCII letters that ``character`` looks like; empty if it looks like none."""
    if lookalike := _LOOKALIKES.get(character) or _enclosed_letters().get(character):
        return lookalike
    if character.isascii() or unicodedata.bidirectional(character) in _NON_LATIN_DIRECTIONS:
        return ""
    return _confusable(character) if unicodedata.category(character)[0] == "L" else ""


def _confusable(character: str) -> str:
    lookalikes = ("".join(map(_without_marks, entry["c"])) for entry in confusables_data.get(character, ()))
    return min(
        (lookalike for lookalike in lookalikes if lookalike.isascii() and lookalike.isalpha()),
        key=len,
        default="",
    )


@cache
def _enclosed_letters() -> dict[str, str]:
    """Return letters in black circles and squares and regional indicators, which NFKD does not decompose."""
    starts = ("\U0001f150", "\U0001f170", "\U0001f1e6")
    return {chr(ord(first) + i): chr(ord("a") + i) for first in starts for i in range(26)}
