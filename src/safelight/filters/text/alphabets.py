"""Letters of non-Latin scripts that look like Latin ones and are used to disguise words.

Folding leaves these letters unchanged, so that ordinary Thai or Hebrew text survives. Restoration replaces
them by their Latin look-alikes only where the result is a known word. Each alphabet is offered by "fancy
text" generators and is listed in the order from a to z.
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
    """Return a map from each folded look-alike letter to the Latin letters that it may stand for."""
    table: dict[str, str] = {}
    pairs = [pair for letters in _ALPHABETS for pair in zip(letters, ascii_lowercase, strict=True)]
    for letters, latin in (*pairs, *_SINGLE):
        for letter in map(fold, letters):
            if len(letter) == 1 and not letter.isascii():
                table[letter] = "".join(sorted({*table.get(letter, ""), *latin}))
    return table
