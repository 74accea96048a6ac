"""Placeholders for images that were not released, for callers that expect one image per request."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from safelight.types import Action, Result, Verdict, severest_action

_GROUND, _INK = (58, 58, 62), (235, 235, 235)
_SIZE = (512, 512)


def with_placeholders(result: Result, size: tuple[int, int] | None = None) -> list[Image.Image]:
    """Return one image for each requested image, in order, with placeholders for unreleased ones.

    A placeholder states why the image was not released, and shows no part of it. Its size is ``size``, by
    default that of the released images.
    """
    released = dict(zip(result.indices, result.images, strict=True))
    prompts = 1 + max((v.index for v in result.verdicts if v.subject == "prompt"), default=-1)
    size = size or next((image.size for image in result.images), _SIZE)
    return [
        released.get(number) or placeholder(size, result.verdicts_of(number))
        for number in range(prompts * result.images_per_prompt)
    ]


def placeholder(size: tuple[int, int], verdicts: tuple[Verdict, ...]) -> Image.Image:
    """Return an image with a text that names the categories and the policy that blocked an image."""
    card = Image.new("RGB", size, _GROUND)
    lines = ["Not shown", *_reasons(verdicts)]
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


def _reasons(verdicts: tuple[Verdict, ...]) -> list[str]:
    worst = severest_action(verdicts)
    worst_verdicts = [v for v in verdicts if v.action is worst and v.action >= Action.BLUR]
    categories = sorted(
        {name for v in worst_verdicts for name, c in v.categories.items() if c.action is worst}
    )
    failed = ["a filter could not process it"] if any(v.reasons for v in worst_verdicts) else []
    return [*categories, *failed, *({f"policy {v.policy}" for v in worst_verdicts})]
