"""Alphabets of letters that look Latin, from scripts in which the same letters spell words of their own.

Folding leaves such letters alone, so that Thai stays Thai. Restoration reads a token in them as Latin where
that gives a known word. Each alphabet is one that "fancy text" generators offer, in the order from a to z.
"""

from __future__ import annotations

from string import ascii_lowercase

from safelight.filters.text.folding import fold

_ALPHABETS = (
    "ค๒ς๔єŦﻮђเןкɭ๓ภ๏קợгรՇยשฬאץչ",
    "ᗩᗷᑕᗪEᖴGᕼIᒍKᒪᗰᑎOᑭᑫᖇᔕTᑌᐯᗯ᙭Yᘔ",
    "ᏗᏰፈᎴᏋᎦᎶᏂᎥᏠᏦᏝᎷᏁᎧᎮᎤᏒᏕᏖᏬᏉᏇጀᎩፚ",
    "ąცƈɖɛʄɠɧıʝƙƖɱŋơ℘զཞʂɬų۷ῳҳყʑ",
    "卂乃匚ᗪ乇千Ꮆ卄丨フҜㄥ爪几ㄖ卩Ɋ尺丂ㄒㄩᐯ山乂ㄚ乙",
)
_SINGLE = (
    ("סם", "o"),
    ("ᘜ", "g"),
    ("טע", "vy"),
    ("חתה", "n"),
    ("ו", "li"),
    ("ן", "lj"),
    ("נ", "j"),
    ("יا", "i"),
    ("ه", "o"),
)


def lookalikes() -> dict[str, str]:
    """Folded letters, each with the Latin ones that it may stand for."""
    looks: dict[str, str] = {}
    pairs = [pair for letters in _ALPHABETS for pair in zip(letters, ascii_lowercase, strict=True)]
    for letters, meant in (*pairs, *_SINGLE):
        for letter in map(fold, letters):
            if len(letter) == 1 and not letter.isascii():
                looks[letter] = "".join(sorted({*looks.get(letter, ""), *meant}))
    return looks
