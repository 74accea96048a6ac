"""Images with rendered text: fonts, colours, outlines and rotations, over any background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from safelight.errors import MissingExtraError, RequestError

Colour = tuple[int, int, int]

# The fonts of matplotlib that have all letters, and are not for formulas.
_FONTS = "DejaVuSans*[!y].ttf DejaVuSerif*[!y].ttf STIXGeneral*.ttf cmr10.ttf cmb10.ttf cmss10.ttf cmtt10.ttf"
# The distance between two lines, and the margin around the text, in font sizes.
_LEADING, _MARGIN = 1.25, 0.5
# The least contrast of text to the mean colour behind it (WCAG 2.2, 1.4.3, asks for 3 for large text).
_CONTRAST = 3.0
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)


@dataclass(frozen=True, slots=True)
class TextStyle:
    """How text is rendered.

    ``size`` is the font size in pixels, and ``angle`` the rotation in degrees. ``outline`` is the colour
    around the letters, ``box`` that of a rectangle behind the text; None is for neither.
    """

    font: Path
    size: int
    colour: Colour
    angle: float = 0.0
    outline: Colour | None = None
    box: Colour | None = None
    opacity: float = 1.0


@dataclass(frozen=True, slots=True)
class RenderedText:
    """An image with text: the words that fit on it, and a mask (mode "L") of the lines' rectangles."""

    image: Image.Image
    lines: tuple[str, ...]
    mask: Image.Image


@cache
def fonts() -> tuple[Path, ...]:
    """Return the fonts that come with matplotlib. Raises ``MissingExtraError`` if it is not installed."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingExtraError("Rendered text", "dev") from error
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    return tuple(sorted({path for pattern in _FONTS.split() for path in folder.glob(pattern)}))


def render_text(
    background: Image.Image, text: str, style: TextStyle, at: tuple[float, float] = (0.5, 0.5)
) -> RenderedText:
    """Render ``text`` over an RGB image, in as many lines as it needs; lines that do not fit are left out.

    ``at`` is where the text stands between left and right, and between top and bottom. Raises
    ``RequestError`` if not one word fits.
    """
    font = ImageFont.truetype(str(style.font), style.size)
    lines = _fitting_lines(text, font, background.size)
    boxes = _boxes(lines, font, background.size, at)
    layer, mask = Image.new("RGBA", background.size), Image.new("L", background.size)
    drawn, marked = ImageDraw.Draw(layer), ImageDraw.Draw(mask)
    if style.box:
        edge = style.size / 4
        around = (
            boxes[0][0] - edge,
            boxes[0][1] - edge,
            max(b[2] for b in boxes) + edge,
            boxes[-1][3] + edge,
        )
        drawn.rectangle(around, fill=style.box)
    width = max(1, round(style.size / 14)) if style.outline else 0
    fill = (*style.colour, round(255 * style.opacity))
    for line, (left, top, right, bottom) in zip(lines, boxes, strict=True):
        drawn.text((left, top), line, fill, font, stroke_width=width, stroke_fill=style.outline)
        marked.rectangle((left, top, right, bottom), fill=255)
    layer, mask = (each.rotate(style.angle, Image.Resampling.BICUBIC) for each in (layer, mask))
    image = background.convert("RGBA")
    image.alpha_composite(layer)
    return RenderedText(image.convert("RGB"), lines, mask)


def behind_text(
    background: Image.Image, text: str, font: Path, size: int, at: tuple[float, float]
) -> Image.Image:
    """Return the part of an image that text would cover. Raises ``RequestError`` if not one word fits."""
    loaded = ImageFont.truetype(str(font), size)
    lines = _fitting_lines(text, loaded, background.size)
    lefts, tops, rights, bottoms = zip(*_boxes(lines, loaded, background.size, at), strict=True)
    return background.crop((round(min(lefts)), round(min(tops)), round(max(rights)), round(max(bottoms))))


def random_style(
    rng: np.random.Generator,
    font: Path,
    size: int,
    background: Image.Image,
    angle: float = 15.0,
) -> TextStyle:
    """Return a style in a colour that stands out from the mean colour of ``background``.

    A quarter of all texts has an outline and a tenth a box behind it; half are rotated, by up to ``angle``
    degrees, and a fifth is translucent.
    """
    behind: Colour = _rgb(np.asarray(background.resize((1, 1), Image.Resampling.BOX))[0, 0])
    kind = rng.random()
    box = _rgb(rng.integers(0, 256, 3)) if kind < 0.1 else None
    colour = _readable_colour(rng, box or behind)
    outline = (_BLACK if _luminance(colour) > 0.18 else _WHITE) if 0.1 <= kind < 0.35 else None
    return TextStyle(
        font,
        size,
        colour,
        float(rng.uniform(-angle, angle)) if rng.random() < 0.5 else 0.0,
        outline,
        box,
        float(rng.uniform(0.7, 1)) if rng.random() < 0.2 else 1.0,
    )


def _fitting_lines(text: str, font: ImageFont.FreeTypeFont, size: tuple[int, int]) -> tuple[str, ...]:
    """Return the text in lines, as many as fit on an image of this size."""
    room = size[0] - 2 * _MARGIN * font.size
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(joined) <= room:
            lines[-1] = joined
        elif font.getlength(word) <= room:
            lines.append(word)
        else:
            break
    if fitting := tuple(lines[: int((size[1] / font.size - 2 * _MARGIN) / _LEADING)]):
        return fitting
    raise RequestError(f"a font of {font.size} pixels is too large for an image of {size}.")


def _boxes(
    lines: Sequence[str], font: ImageFont.FreeTypeFont, size: tuple[int, int], at: tuple[float, float]
) -> list[tuple[float, float, float, float]]:
    """Return the box of every line: left, top, right, bottom."""
    margin, step = _MARGIN * font.size, _LEADING * font.size
    widths = [font.getlength(line) for line in lines]
    left = margin + at[0] * (size[0] - 2 * margin - max(widths))
    top = margin + at[1] * (size[1] - 2 * margin - step * len(lines))
    return [(left, top + i * step, left + width, top + (i + 1) * step) for i, width in enumerate(widths)]


def _readable_colour(rng: np.random.Generator, behind: Colour) -> Colour:
    plain = (_BLACK, _WHITE, (255, 230, 0), (220, 0, 0))
    for _ in range(20):
        each = plain[rng.integers(4)] if rng.random() < 0.4 else _rgb(rng.integers(0, 256, 3))
        if _contrast(each, behind) >= _CONTRAST:
            return each
    return _BLACK if _luminance(behind) > 0.18 else _WHITE


def _rgb(values: Sequence[int] | np.ndarray) -> Colour:
    red, green, blue = (int(value) for value in values)
    return red, green, blue


def _luminance(colour: Colour) -> float:
    """Return the relative luminance (WCAG 2.2)."""
    shares = [value / 255 for value in colour]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def _contrast(one: Colour, other: Colour) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)
