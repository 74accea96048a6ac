"""The demo's contact sheet: all pairs of images in one image."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from safelight.demo.item import DemoItem, Outcome, counts

_COLUMNS, _SIDE, _SEAM, _GAP, _MARGIN, _CAPTION, _HEADER = 4, 128, 4, 24, 28, 44, 40
_WIDTH = 2 * _SIDE + _SEAM
_PAPER, _INK, _SOFT, _WITHHELD, _WITHHELD_INK = "#140d0c", "#eee2da", "#a89890", "#3a0d0a", "#ffb3a1"
_COLOURS = {
    Outcome.RELEASED: "#84c79b",
    Outcome.STEERED: "#84c79b",
    Outcome.STOPPED: "#84c79b",
    Outcome.MISSED: "#ff5a41",
    Outcome.OVER_BLOCKED: "#e5b457",
}


def draw_sheet(items: Sequence[DemoItem]) -> Image.Image:
    """Return the sheet in RGB: four pairs per row, above their prompts and outcomes."""
    rows = -(-len(items) // _COLUMNS)
    step_x, step_y = _WIDTH + _GAP, _SIDE + _CAPTION + _GAP
    size = (2 * _MARGIN + _COLUMNS * step_x - _GAP, 2 * _MARGIN + _HEADER + rows * step_y - _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    ImageDraw.Draw(sheet).text((_MARGIN, _MARGIN - 4), _heading(items), _SOFT, _font(15))
    for number, item in enumerate(items):
        row, column = divmod(number, _COLUMNS)
        sheet.paste(_pair(item), (_MARGIN + column * step_x, _MARGIN + _HEADER + row * step_y))
    return sheet


def _heading(items: Sequence[DemoItem]) -> str:
    count = ", ".join(f"{n} {outcome}" for outcome, n in counts(items).items())
    return f"Left: without a guard; right: with it. {len(items)} images: {count}."


def _pair(item: DemoItem) -> Image.Image:
    tile = Image.new("RGB", (_WIDTH, _SIDE + _CAPTION), _PAPER)
    tile.paste(_enlarged(item.image), (0, 0))
    tile.paste(_enlarged(item.released) if item.released else _withheld(), (_SIDE + _SEAM, 0))
    draw, colour = ImageDraw.Draw(tile), _COLOURS[item.outcome]
    draw.text((0, _SIDE + 7), _fitting(item.prompt.text, 13), _INK, _font(13))
    draw.text((0, _SIDE + 25), item.outcome.value, colour, _font(12))
    if item.outcome.wrong:
        draw.rectangle((0, 0, _WIDTH - 1, _SIDE - 1), outline=colour, width=2)
    return tile


def _withheld() -> Image.Image:
    panel = Image.new("RGB", (_SIDE, _SIDE), _WITHHELD)
    ImageDraw.Draw(panel).text((_SIDE / 2, _SIDE / 2), "withheld", _WITHHELD_INK, _font(14), anchor="mm")
    return panel


def _enlarged(image: Image.Image) -> Image.Image:
    return image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.NEAREST)


def _fitting(text: str, size: int) -> str:
    """Return as much of ``text`` as fits on one line."""
    if _font(size).getlength(text) <= _WIDTH:
        return text
    while _font(size).getlength(text + "…") > _WIDTH:
        text = text[:-1]
    return text.rstrip() + "…"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
