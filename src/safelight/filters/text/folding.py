"""Folding: a prompt in the plain letters that a reader sees in it, and where each of them came from.

Folding is for finding things only; what is shown, logged or generated is always the original.
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

# The longest texts that image models read are some 1,000 tokens, or 5,000 characters.
LONGEST = 10_000
_KEPT_CODES = 1 << 16

# Look-alikes that Unicode's list of confusables (TR39) has only as capitals, or not at all.
_SMALL_CAPITALS = dict(zip("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnopqrstuvwyz", strict=True))
_TURNED = dict(zip("ɐɔǝɟƃɓɥᴉıɾʞʅɯɹʇʌʍʎ", "acefgghiijklmrtvwy", strict=True))
_ALIKE = {
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
# Letters of these directions belong to scripts that nobody mistakes for Latin.
_APART = frozenset({"R", "AL", "AN"})
# Voicing marks, nuktas and viramas change which letter it is; all other marks only adorn one.
_SPEAKING_MARKS = frozenset({0, 7, 8, 9})
_SILENT = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0\u0640\U0001d159"
)
_BREAKS = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x1f\x85")
# What Unicode calls a few emoji is not what people call them.
_EMOJI_NAMES = {"\U0001f52a": "knife", "\U0001f5e1": "dagger", "\U0001f489": "syringe", "\U0001fa78": "blood"}

# What any other sign folds to, and the signs that pass for letters.
_SIGN = "*"
_MONEY = "€£¥"

TURNED = frozenset(_TURNED) - {"ı", "ɓ"}


class Folded:
    """``text``, folded from ``original``, in time linear in its length.

    With ``emoji``, emoji become their names; without, they are as good as any other sign between letters.
    A prompt that was decoded is folded from what it decodes to. Raises ``FilterError`` for a prompt that is
    longer than any image model reads: an emoji has up to some 80 letters.
    """

    def __init__(self, prompt: str | Decoded, emoji: bool = True) -> None:
        self._decoded = prompt if isinstance(prompt, Decoded) else None
        self.original = prompt if isinstance(prompt, str) else prompt.text
        self._letters = _WITH_EMOJI if emoji else _WITHOUT_EMOJI
        self.text = self.original.translate(self._letters)
        if len(self.text) > LONGEST:
            raise FilterError(
                f"the prompt has {len(self.text)} characters as it is read; shorten it to {LONGEST}."
            )
        self._ends: list[int] | None = None

    def span(self, start: int, end: int) -> Span:
        """The part of the original that became ``text[start:end]``."""
        if self._ends is None:  # only prompts in which something was found pay for it
            lengths = (len(self._letters[ord(character)]) for character in self.original)
            self._ends = list(accumulate(lengths))
        left, right = bisect_right(self._ends, start), bisect_right(self._ends, end - 1) + 1
        return (
            self._decoded.span(left, right) if self._decoded else Span(left, right, self.original[left:right])
        )


def fold(text: str) -> str:
    """``text`` as :class:`Folded` has it."""
    return text.translate(_WITH_EMOJI)


class _Letters(dict[int, str]):
    """Code point -> what it folds to, worked out when first met."""

    def __init__(self, emoji: bool) -> None:
        super().__init__()
        self._emoji = emoji

    def __missing__(self, code: int) -> str:
        if len(self) > _KEPT_CODES:
            self.clear()
        folded = self[code] = _fold(chr(code), self._emoji)
        return folded


_WITH_EMOJI, _WITHOUT_EMOJI = _Letters(True), _Letters(False)


def _fold(character: str, emoji: bool) -> str:
    """NFKD keeps no memory of neighbours once marks are gone, so characters can be folded one by one."""
    if character in _BREAKS:
        return " "
    if _is_itself(character):
        return character
    if _is_image(character):
        return _emoji_name(character) if emoji else _SIGN
    plain = _plain(character)
    if plain.isascii():
        return plain
    # Some capitals look like other letters than their small forms do, Greek nu like N, and like v. But all
    # forms of I pass for an l.
    look = _lookalike(character)
    if look and look != "l":
        return look
    return "".join(map(_seen_as, plain))


def _emoji_name(character: str) -> str:
    return f" {_EMOJI_NAMES.get(character) or unicodedata.name(character).casefold()} "


def _seen_as(letter: str) -> str:
    """The ASCII letter that it looks like, or a sign, or itself."""
    if look := _lookalike(letter) or _lookalike(letter.upper()):
        return look
    signs = unicodedata.category(letter)[0] in "PS" and letter not in _MONEY
    return _SIGN if signs or "\u02b9" <= letter <= "\u02ff" else letter


def _is_itself(character: str) -> bool:
    """Most of Unicode, told apart quickly: ideographs, syllables and what is not assigned."""
    return (
        unicodedata.category(character) in ("Lo", "Cn", "Co")
        and not unicodedata.decomposition(character)
        and character not in confusables_data
        and character not in _SILENT
        and not "\uac00" <= character <= "\ud7a3"  # syllables of Hangul decompose, though by rule
    )


def _plain(character: str) -> str:
    """Compatibility forms and case undone, marks and what cannot be seen left out."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    return "".join(" " if letter.isspace() else letter for letter in decomposed if _is_seen(letter))


def _is_seen(letter: str) -> bool:
    category = unicodedata.category(letter)
    if category in ("Cc", "Cf", "Cs", "Me") or letter in _SILENT or _is_variation_selector(letter):
        return False
    return unicodedata.combining(letter) in _SPEAKING_MARKS


def _is_variation_selector(letter: str) -> bool:
    return "\ufe00" <= letter <= "\ufe0f" or "\U000e0100" <= letter <= "\U000e01ef"


def _is_image(character: str) -> bool:
    return character in _EMOJI_NAMES or (
        character > "\u2300"
        and unicodedata.category(character) == "So"
        and unicodedata.normalize("NFKD", character) == character
        and character not in _boxed()
        and bool(unicodedata.name(character, ""))
    )


def _lookalike(character: str) -> str:
    """The ASCII letters that ``character`` looks like; empty if it looks like none."""
    if look := _ALIKE.get(character) or _boxed().get(character):
        return look
    if character.isascii() or unicodedata.bidirectional(character) in _APART:
        return ""
    return _confusable(character) if unicodedata.category(character)[0] == "L" else ""


def _confusable(character: str) -> str:
    looks = ("".join(map(_plain, entry["c"])) for entry in confusables_data.get(character, ()))
    return min((look for look in looks if look.isascii() and look.isalpha()), key=len, default="")


@cache
def _boxed() -> dict[str, str]:
    """Letters in black circles and squares, and those that flags are made of: Unicode decomposes none."""
    starts = ("\U0001f150", "\U0001f170", "\U0001f1e6")
    return {chr(ord(first) + i): chr(ord("a") + i) for first in starts for i in range(26)}
