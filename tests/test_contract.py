"""What every registered component must do, whoever wrote it: one row each."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import safelight
from safelight import registry
from safelight.protocols import ImageFilter, PairFilter, PromptFilter
from safelight.types import Finding, Span

DETECTOR = Path(safelight.__file__).parent / "storybook" / "detectors" / "filter.onnx"
CLASSIFIER = Path(safelight.__file__).parent / "filters" / "text" / "classifiers" / "general" / "model.onnx"
KNOWN = Path(__file__).parent / "filters" / "image" / "known.txt"
CLIP = Path(safelight.__file__).parent / "storybook" / "clip" / "image.onnx"

# Replaced by the address of a real server, and by the folders of tiny real models.
CHAT, IMAGE_CLASSIFIER, OBJECT_DETECTOR = "a chat server", "an image classifier", "an object detector"

# (kind, name, options, what must be there to build it)
ROWS: list[tuple[str, str, dict[str, Any], bool]] = [
    ("prompt_filter", "always", {"label": "weapons"}, True),
    ("prompt_filter", "classifier", {}, CLASSIFIER.is_file()),
    ("prompt_filter", "language-model", {"url": CHAT, "model": "tiny", "answers": "llama-guard"}, True),
    ("prompt_filter", "lexicon", {"words": "storybook"}, True),
    ("prompt_filter", "never", {}, True),
    ("image_filter", "always", {}, True),
    ("image_filter", "known-image", {"lists": [str(KNOWN)]}, True),
    ("image_filter", "image-classifier", {"model": IMAGE_CLASSIFIER}, True),
    ("image_filter", "clip", {"concepts": {"gun": ["a gun"]}}, CLIP.is_file()),
    ("image_filter", "never", {}, True),
    ("image_filter", "nudenet", {}, importlib.util.find_spec("nudenet") is not None),
    ("image_filter", "object-detector", {"model": OBJECT_DETECTOR}, True),
    ("image_filter", "storybook-image", {}, DETECTOR.is_file()),
    ("image_filter", "vision-language-model", {"url": CHAT, "model": "tiny", "answers": "llama-guard"}, True),
    ("pair_filter", "always", {}, True),
    ("pair_filter", "consistency", {"concepts": {"gun": ["a gun"]}}, CLIP.is_file()),
    ("pair_filter", "never", {}, True),
    ("pair_filter", "vision-language-model", {"url": CHAT, "model": "tiny", "answers": "llama-guard"}, True),
]
PICTURES = [Image.new("RGB", (64, 64), "red"), Image.new("L", (9, 7)), Image.new("RGBA", (100, 40))]
PROMPTS = ["a man with a gun", "🐈", "Ａ ＫＮＩＦＥ"]
ITEMS: dict[str, list[Any]] = {
    "prompt_filter": PROMPTS,
    "image_filter": PICTURES,
    "pair_filter": list(zip(PROMPTS, PICTURES, strict=True)),
}
PROTOCOLS = {"prompt_filter": PromptFilter, "image_filter": ImageFilter, "pair_filter": PairFilter}


def _filters() -> list[Any]:
    missing = pytest.mark.skipif(True, reason="not installed")
    return [
        pytest.param(kind, name, options, id=f"{kind}-{name}", marks=() if there else missing)
        for kind, name, options, there in ROWS
    ]


def test_every_component_has_a_row() -> None:
    registered = {(kind, name) for kind in registry.KINDS for name in registry.names(kind)}
    assert {(kind, name) for kind, name, *_ in ROWS} == registered


@pytest.mark.parametrize(("kind", "name", "options"), _filters())
def test_filters_keep_the_contract(
    kind: str, name: str, options: dict[str, Any], real: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    built = registry.build(kind, name, name="mine", **real(options))
    assert isinstance(built, PROTOCOLS[kind])
    assert built.name == "mine"
    assert built.version
    items = ITEMS[kind]
    answers = built.find(items)
    assert len(answers) == len(items)
    for item, answer in zip(items, answers, strict=True):
        for finding in answer:
            assert isinstance(finding, Finding)
            assert finding.filter == "mine"
            if isinstance(finding.evidence, Span):
                assert item[finding.evidence.start : finding.evidence.end] == finding.evidence.text
    assert [list(answer) for answer in built.find(items)] == [list(answer) for answer in answers]
    assert len(built.find([])) == 0


@pytest.mark.parametrize(("kind", "name", "options"), _filters())
def test_components_are_named_by_default_as_they_are_registered(
    kind: str, name: str, options: dict[str, Any], real: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    assert registry.build(kind, name, **real(options)).name == name


@pytest.fixture
def real(chat: Any, save_classifier: Any, save_detector: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Puts real servers and models in the place of their names."""
    makers = {
        CHAT: lambda: chat.url,
        IMAGE_CLASSIFIER: lambda: str(save_classifier("harmless", "harmful")),
        OBJECT_DETECTOR: lambda: str(save_detector("knife", "gun")),
    }

    def replace(options: dict[str, Any]) -> dict[str, Any]:
        return {key: makers.get(str(value), lambda value=value: value)() for key, value in options.items()}

    return replace
