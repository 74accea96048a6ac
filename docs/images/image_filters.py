"""Draws the pictures of docs/image-filters.md beside this file: python docs/images/image_filters.py"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageOps
from sheet import SIDE, Tile, save

from safelight import Guard, load_pipeline
from safelight.filters.image.clip import Clip
from safelight.filters.image.known_image import KnownImage
from safelight.filters.image.nudenet import NudeNet
from safelight.filters.text_image.consistency import Consistency
from safelight.guard.early_stop import watched
from safelight.hashing.pdq import PdqHasher
from safelight.images.blur import blurred, boxes_to_blur
from safelight.images.placeholder import placeholder
from safelight.storybook.plan import Plan
from safelight.storybook.scene import draw_scene
from safelight.storybook.truth import Relation
from safelight.types import Box, Finding, Verdict

_HERE = Path(__file__).parent


def main() -> None:
    guard = Guard.from_policy("storybook")
    save("company", _context(guard))
    save("early-stop", _early_stop(guard))
    save("hiding", _hiding(guard))
    save("known-image", _known_image())
    save("nudenet", _nudenet())
    save("concepts", _concepts())
    save("consistency", _consistency())


def _scene(*objects: str, holding: bool = False, seed: str = "1", place: str = "kitchen") -> Image.Image:
    relation = Relation(0, "holding" if holding else "next to", 1)
    return draw_scene(Plan(objects, (relation,), place, "cartoon"), seed).image


def _outlined(image: Image.Image, findings: Sequence[Finding]) -> Image.Image:
    large = image.resize((SIDE, SIDE), Image.Resampling.NEAREST).convert("RGB")
    draw = ImageDraw.Draw(large)
    for finding in findings:
        if isinstance(finding.evidence, Box):
            box = finding.evidence
            draw.rectangle(
                [SIDE * side for side in (box.left, box.top, box.right, box.bottom)], None, "#d50000"
            )
    return large


def _said(verdict: Verdict) -> list[str]:
    seen = [f"{f.label} {f.score:.2f}" for f in verdict.findings if f.score >= 0.5]
    why = [f"{name} {c.score:.2f}" for name, c in verdict.categories.items() if c.threshold is not None]
    return [f"{verdict.action}: {', '.join(why)}" if why else str(verdict.action), ", ".join(seen)]


def _context(guard: Guard) -> list[Tile]:
    scenes = [
        _scene("chef", "knife", holding=True, seed="4"),
        _scene("man", "knife", seed="2"),
        _scene("man", "knife", holding=True, seed="3"),
        _scene("child", "knife", seed="5", place="park"),
    ]
    verdicts = guard.screen_images(scenes)
    return [
        (_outlined(image, [f for f in v.findings if f.score >= 0.5]), _said(v))
        for image, v in zip(scenes, verdicts, strict=True)
    ]


def _early_stop(guard: Guard) -> list[Tile]:
    import torch

    pipe: Any = load_pipeline("storybook")
    pipe.set_progress_bar_config(disable=True)
    tiles: list[Tile] = []

    def look(done: int, of: int, images: list[Image.Image]) -> None:
        (verdict,) = guard.screen_images(images)
        tiles.append((images[0], [f"after step {done} of {of}", *_said(verdict)]))

    with watched(pipe, [step / 25 for step in (3, 5, 7, 9, 11, 25)], look):
        pipe("a soldier on the street", num_inference_steps=25, generator=torch.Generator().manual_seed(3))
    return tiles


def _hiding(guard: Guard) -> list[Tile]:
    image = _scene("man", "sword", holding=True, seed="6", place="beach")
    (verdict,) = guard.screen_images([image])
    boxes = boxes_to_blur([verdict])
    return [
        (blurred(image, boxes), ['style = "blur"']),
        (blurred(image, boxes, "mosaic"), ['style = "mosaic"']),
        (blurred(image, style="mosaic"), ["whole = true"]),
        (placeholder((SIDE, SIDE), (verdict,)), ["a card in its place"]),
    ]


def _known_image() -> list[Tile]:
    original = _scene("dog", "ball", seed="7", place="park")
    listed = _HERE / "known.txt"
    listed.write_text(f"pdq {PdqHasher()(original).hex} scene-7\n")
    known = KnownImage([str(listed)])
    smaller = original.resize((48, 48)).resize((64, 64))
    copies = {
        "as listed": original,
        "turned": original.rotate(90),
        "mirrored": ImageOps.mirror(original),
        "scaled": smaller,
        "another": _scene("cat", "ball", seed="8", place="park"),
    }
    answers = known.find(list(copies.values()))
    listed.unlink()
    tiles: list[Tile] = []
    for (name, image), found in zip(copies.items(), answers, strict=True):
        match = found[0].evidence if not isinstance(found, Exception) and found else None
        tiles.append((image, [name, f"{match.id}, {match.distance} bits" if match else "no match"]))  # type: ignore[union-attr]
    return tiles


def _nudenet() -> list[Tile]:
    """A portrait of Grace Hopper by the U. S. Navy, in the public domain; it comes with Matplotlib."""
    from matplotlib import get_data_path

    portrait = Image.open(Path(get_data_path()) / "sample_data" / "grace_hopper.jpg").convert("RGB")
    portrait = portrait.crop((0, 0, portrait.width, portrait.width))
    (found,) = NudeNet().find([portrait])
    assert not isinstance(found, Exception)
    small = portrait.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return [(_outlined(small, found), [f"{f.label} {f.score:.2f}" for f in found])]


_CONCEPTS = {
    label: [f"a picture of a {label}", f"a {label}"] for label in ("gun", "knife", "bottle", "dog", "boat")
}
_NEUTRAL = ["a picture", "a picture of a man", "a picture of a house", "a picture of an apple"]


def _concepts() -> list[Tile]:
    scenes = [
        _scene("soldier", "gun", holding=True, seed="9", place="street"),
        _scene("dog", "boat", seed="10", place="beach"),
        _scene("woman", "bottle", holding=True, seed="11"),
    ]
    found = Clip(concepts=_CONCEPTS, neutral=_NEUTRAL).find(scenes)
    return [(image, _best(seen)) for image, seen in zip(scenes, found, strict=True)]


def _consistency() -> list[Tile]:
    image = _scene("bottle", "cup", seed="12")
    prompts = ["a quiet kitchen", "something strong to drink", "a bottle"]
    found = Consistency(_CONCEPTS, neutral=_NEUTRAL).find([(prompt, image) for prompt in prompts])
    return [(image, [f'"{prompt}"', *_best(seen, 1)]) for prompt, seen in zip(prompts, found, strict=True)]


def _best(found: Sequence[Finding] | Exception, count: int = 3) -> list[str]:
    findings = [] if isinstance(found, Exception) else sorted(found, key=lambda one: -one.score)
    return [f"{finding.label} {finding.score:.2f}" for finding in findings[:count]] or ["nothing"]


if __name__ == "__main__":
    main()
