"""Images that stand where others were held back, for callers that count on one for every image."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from safelight.types import Action, Result, Verdict, severest

_GROUND, _INK = (58, 58, 62), (235, 235, 235)
_SIZE = (512, 512)


def with_placeholders(result: Result, size: tuple[int, int] | None = None) -> list[Image.Image]:
    """One image for each that was asked for, in order; a card that says why where none was released.

    Cards are as large as ``size``, or as the released images. Nothing of an image that was held back is
    in them.
    """
    released = dict(zip(result.indices, result.images, strict=True))
    prompts = 1 + max((v.index for v in result.verdicts if v.subject == "prompt"), default=-1)
    size = size or next((image.size for image in result.images), _SIZE)
    return [
        released.get(number) or placeholder(size, result.verdicts_of(number))
        for number in range(prompts * result.images_per_prompt)
    ]


def placeholder(size: tuple[int, int], verdicts: tuple[Verdict, ...]) -> Image.Image:
    """A card that says what was not shown, by which policy and for which categories."""
    card = Image.new("RGB", size, _GROUND)
    lines = ["Not shown", *_why(verdicts)]
    points = max(8.0, min(size[0] / 16, size[1] / (1.6 * len(lines))))
    ImageDraw.Draw(card).multiline_text(
        (size[0] / 2, size[1] / 2),
        "\n".join(lines),
        _INK,
        ImageFont.load_default(points),
        anchor="mm",
        align="center",
    )
    return card


def _why(verdicts: tuple[Verdict, ...]) -> list[str]:
    worst = severest(verdicts)
    mine = [v for v in verdicts if v.action is worst and v.action >= Action.BLUR]
    categories = sorted({name for v in mine for name, c in v.categories.items() if c.action is worst})
    failed = ["a filter could not look at it"] if any(v.reasons for v in mine) else []
    return [*categories, *failed, *({f"policy {v.policy}" for v in mine})]
