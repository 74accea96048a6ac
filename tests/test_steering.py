"""Images in which harm is seen are drawn again, led away from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image

from pipelines import draw, flux
from safelight import registry
from safelight.alignment.delta.delta import Delta, Provenance, part_sha256
from safelight.alignment.guidance.risk import PromptSimilarityRisk
from safelight.alignment.guidance.trace import Trace
from safelight.alignment.text_encoder import Prompts, SafeText
from safelight.errors import ModelError, PolicyError, RegistryError
from safelight.guard.guard import Guard
from safelight.guard.guided_call import guided
from safelight.guard.private_pipeline import private_pipeline
from safelight.guard.steering import GuidancePlan, Steering
from safelight.policy import CategoryRule, Policy, Thresholds
from safelight.types import Finding, TraceStep

STEPS = {"num_inference_steps": 10, "height": 16, "width": 16}
EARLY = "[early_stop]\nat = [0.3, 0.5]\nscore = 0.9\n\n"
PROMPTS = ["a cat", "a dog", "a cow"]
Says = Callable[[int, int], list[Finding]]


class Eye:
    """Sees in image ``row`` of its call number ``call`` what it was told to."""

    name, version = "eye", "1"

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.says: Says = lambda call, row: []

    def find(self, images: Sequence[Image.Image]) -> list[list[Finding]]:
        self.sizes.append(len(images))
        return [self.says(len(self.sizes), row) for row in range(len(images))]


def gun(score: float = 0.95) -> list[Finding]:
    return [Finding("gun", score, "eye")]


@pytest.fixture
def eye() -> Eye:
    return Eye()


class Ear:
    """Hears a gun in a prompt, as surely as the prompt says."""

    name, version = "ear", "1"

    def find(self, prompts: Sequence[str]) -> list[list[Finding]]:
        return [
            [Finding("gun", float(prompt.rpartition("gun ")[2] or 0), "ear")] if "gun" in prompt else []
            for prompt in prompts
        ]


@pytest.fixture
def leading(write_policy: Callable[..., Path], eye: Eye) -> Callable[..., Guard]:
    """A guard whose policy has this table ``[guidance]``."""

    def build(guidance: str, early: str = "", prompt: str = "{ review = 0.3, block = 0.8 }") -> Guard:
        table = f"[guidance]\n{guidance}\n\n{early}[filters]"
        path = write_policy(("[filters]", table), ("{ review = 0.3, block = 0.8 }", prompt))
        return Guard(Policy.load(path), {"prompt": [Ear], "image": [lambda: eye]})

    return build


def _bytes(images: Sequence[Image.Image]) -> list[bytes]:
    return [image.tobytes() for image in images]


def test_what_shows_harm_early_is_led_away_and_the_others_stay(
    leading: Callable[..., Guard], guard: Guard, pipe: Any, eye: Eye
) -> None:
    eye.says = lambda call, row: gun() if (call, row) == (1, 1) else []
    result = leading('steer = ["sld-strong", "sld-max"]', EARLY).generate(pipe, PROMPTS, seed=5, **STEPS)
    plain = guard.generate(pipe, PROMPTS, seed=5, **STEPS)
    assert eye.sizes == [3, 2, 2, 1, 1, 1]
    assert result.indices == (0, 1, 2)
    images, before = _bytes(result.images), _bytes(plain.images)
    assert (images[0], images[2]) == (before[0], before[2])
    assert images[1] != before[1]
    assert (result.action, result.stopped) == ("allow", {})
    first, second = result.attempts[1]
    assert (first.guidance, first.stop and first.stop.step) == (None, 3)
    assert first.verdict
    assert first.verdict.findings == tuple(gun())
    assert (second.guidance, second.verdict, second.stop) == ("sld-strong", None, None)
    assert second.concepts == ("an image showing weapons, guns, knives, explosives",)
    assert any(step.acting for step in second.trace)
    assert result.attempts.keys() == {1}
    said = json.loads(json.dumps(result.to_dict()))["attempts"]["1"]
    assert said[0]["stop"] == {"step": 3, "steps": 10, "saved": 0}
    assert len(said[1]["trace"]) == 10


def test_what_still_shows_harm_is_blocked(leading: Callable[..., Guard], pipe: Any, eye: Eye) -> None:
    eye.says = lambda call, row: gun()
    result = leading('steer = ["sld-strong", "sld-max"]').generate(pipe, "a cat", seed=5, **STEPS)
    assert (result.images, result.action) == ((), "block")
    assert [tried.guidance for tried in result.attempts[0]] == [None, "sld-strong", "sld-max"]
    assert all(tried.verdict and tried.verdict.action == "block" for tried in result.attempts[0])
    assert len([v for v in result.verdicts if v.subject == "generated_image"]) == 1, "only what was said last"


def test_a_finished_image_is_led_away_as_well(leading: Callable[..., Guard], pipe: Any, eye: Eye) -> None:
    eye.says = lambda call, row: gun() if call == 1 and row == 2 else []
    result = leading('steer = ["sld-medium"]').generate(pipe, "a cat", n=3, seed=5, **STEPS)
    assert eye.sizes == [3, 1]
    assert result.indices == (0, 1, 2)
    assert result.attempts.keys() == {2}
    alone = leading('steer = ["sld-medium"]').generate(pipe, "a cat", seed=7, **STEPS)
    assert alone.attempts == {}


def test_each_is_led_away_from_what_was_seen_in_it(
    leading: Callable[..., Guard], pipe: Any, eye: Eye
) -> None:
    brutal = [Finding("violence", 0.9, "eye")]
    eye.says = lambda call, row: [gun(), brutal, []][row] if call == 1 else []
    table = 'steer = ["sld-strong"]\nconcepts = { gun = "a gun" }'
    result = leading(table).generate(pipe, PROMPTS, seed=5, **STEPS)
    assert result.attempts[0][1].concepts == ("a gun",)
    assert "brutality" in result.attempts[1][1].concepts[0]
    assert result.indices == (0, 1, 2)


def erase(pipe: Any, path: Path, at: int) -> Delta:
    """Written to ``path``: it changes one bias."""
    difference = torch.zeros_like(pipe.unet.conv_out.bias)
    difference[at] = 3.0
    base = {"unet": part_sha256(pipe, "unet")}
    delta = Delta.of({"unet.conv_out.bias": difference}, Provenance("test", ("a gun",), "tiny", base))
    delta.save(path)
    return delta


ERASED = """steer = ["erasure", "sld-strong"]
concepts = { gun = "a gun", violence = "violence" }
[guidance.deltas]
gun = "gun.safetensors"
"""


def test_what_was_seen_is_taken_out_of_the_weights(
    leading: Callable[..., Guard], guard: Guard, pipe: Any, eye: Eye, tmp_path: Path
) -> None:
    """Each by its own delta, and only while it is drawn again; where there is none, as the policy goes on."""
    before = {name: value.clone() for name, value in pipe.unet.state_dict().items()}
    files = (tmp_path / "gun.safetensors", tmp_path / "v.safetensors")
    deltas = [erase(pipe, file, at) for at, file in enumerate(files)]
    seen = [[], gun(), [Finding("violence", 0.9, "eye")]]
    eye.says = lambda call, row: seen[row] if call == 1 else []
    both = leading(f'{ERASED}violence = "v.safetensors"').generate(pipe, PROMPTS, seed=5, **STEPS)
    images = _bytes(guard.generate(pipe, PROMPTS, seed=5, **STEPS).images)
    for row, delta in enumerate(deltas, 1):
        with delta.attach(pipe):
            images[row] = _bytes(guard.generate(pipe, PROMPTS[row], seed=5 + row, **STEPS).images)[0]
    assert _bytes(both.images) == images
    assert [(tried.guidance, tried.concepts) for tried in both.attempts[1]] == [
        (None, ()),
        ("erasure", ("a gun",)),
    ]
    eye.sizes.clear()
    one = leading(ERASED).generate(pipe, PROMPTS, seed=5, **STEPS)
    assert _bytes(one.images)[:2] == images[:2]
    assert [tries[1].guidance for tries in one.attempts.values()] == ["erasure", "sld-strong"]
    assert all(torch.equal(value, before[name]) for name, value in pipe.unet.state_dict().items())


def test_an_aligned_text_encoder_is_put_on_for_the_images_that_need_it(
    leading: Callable[..., Guard], guard: Guard, pipe: Any, eye: Eye, tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in pipe.text_encoder.state_dict().items()}
    prompts = Prompts(("a gun", "a gun in a park"), ("a dog", "a cat"))
    delta = SafeText(["a gun"], prompts, train_steps=4, learning_rate=0.05).align(pipe).delta
    delta.save(tmp_path / "gun.safetensors")
    eye.says = lambda call, row: gun() if call == 1 and row == 1 else []
    result = leading(ERASED).generate(pipe, PROMPTS, seed=5, **STEPS)
    plain = _bytes(guard.generate(pipe, PROMPTS, seed=5, **STEPS).images)
    with delta.attach(pipe):
        led = _bytes(guard.generate(pipe, PROMPTS[1], seed=6, **STEPS).images)[0]
    assert led != plain[1]
    assert _bytes(result.images) == [plain[0], led, plain[2]]
    assert list(result.attempts) == [1]
    assert all(torch.equal(value, before[name]) for name, value in pipe.text_encoder.state_dict().items())


def test_one_delta_for_several_things_is_put_on_once(
    leading: Callable[..., Guard], guard: Guard, pipe: Any, eye: Eye, tmp_path: Path
) -> None:
    delta = erase(pipe, tmp_path / "gun.safetensors", 0)
    seen = [[*gun(), Finding("violence", 0.9, "eye")], gun(), [Finding("violence", 0.9, "eye")]]
    eye.says = lambda call, row: seen[row] if call == 1 else []
    result = leading(f'{ERASED}violence = "gun.safetensors"').generate(pipe, PROMPTS, seed=5, **STEPS)
    with delta.attach(pipe):
        led = guard.generate(pipe, PROMPTS, seed=5, **STEPS)
    assert _bytes(result.images) == _bytes(led.images)
    assert eye.sizes == [3, 3], "all three in one call"


def test_what_is_to_be_erased_always_is(
    leading: Callable[..., Guard], guard: Guard, pipe: Any, tmp_path: Path
) -> None:
    delta = erase(pipe, tmp_path / "gun.safetensors", 0)
    result = leading(ERASED.replace('steer = ["erasure", "sld-strong"]', 'default = "erasure"')).generate(
        pipe, "a cat", seed=5, **STEPS
    )
    with delta.attach(pipe):
        expected = guard.generate(pipe, "a cat", seed=5, **STEPS)
    assert _bytes(result.images) == _bytes(expected.images)
    assert (result.attempts[0][0].guidance, result.attempts[0][0].concepts) == ("erasure", ("a gun",))


def test_a_delta_for_another_model_is_passed_over(
    leading: Callable[..., Guard], pipe: Any, eye: Eye, tmp_path: Path
) -> None:
    erase(pipe, tmp_path / "gun.safetensors", 0)
    with torch.no_grad():
        pipe.unet.conv_in.bias += 1
    eye.says = lambda call, row: gun() if call == 1 else []
    result = leading(ERASED).generate(pipe, "a cat", seed=5, **STEPS)
    assert [tried.guidance for tried in result.attempts[0]] == [None, "sld-strong"]
    assert '"gun" could not be erased: the unet is not that of tiny' in result.notes[0]


def test_deltas_that_make_no_sense_are_refused(leading: Callable[..., Guard], tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"policy.toml, line \d+: there is no file .*gun.safetensors"):
        leading(ERASED)
    (tmp_path / "gun.safetensors").write_bytes(b"")
    with pytest.raises(PolicyError, match='"bomb" has a delta but no text'):
        leading(ERASED.replace("\ngun =", "\nbomb ="))


def test_what_was_harmful_once_is_suspected(leading: Callable[..., Guard], pipe: Any, eye: Eye) -> None:
    """A block at 0.7 and more; of an image that was drawn again, at 0.1 and more."""
    scores = [0.95, 0.15, 0.05]
    eye.says = lambda call, row: gun(scores[call - 1])
    table = 'steer = ["prompt-projection", "sld-strong"]\nscore = 0.1'
    result = leading(table).generate(pipe, "a cat", seed=5, **STEPS)
    assert [tried.guidance for tried in result.attempts[0]] == [None, "prompt-projection", "sld-strong"]
    seen = [tried.verdict and tried.verdict.categories["weapons"] for tried in result.attempts[0]]
    assert [(each.score, each.threshold) if each else None for each in seen] == [
        (0.95, 0.7),
        (0.15, 0.1),
        None,
    ]
    assert (result.action, len(result.images), result.verdicts[-1].action) == ("allow", 1, "allow")
    scores = [0.15]
    eye.sizes.clear()
    assert leading(table).generate(pipe, "a cat", **STEPS).attempts == {}, "nobody suspects it yet"
    scores = [0.95, 0.15]
    eye.sizes.clear()
    result = leading(table.partition("\n")[0]).generate(pipe, "a cat", seed=5, **STEPS)
    assert [tried.guidance for tried in result.attempts[0]] == [None, "prompt-projection"]


def test_what_the_prompt_says_of_it_is_left_out(leading: Callable[..., Guard], pipe: Any, eye: Eye) -> None:
    """Return whether a filter found the label, or it is only a label that the policy has a rule for."""
    concepts = 'concepts = { gun = "a gun" }'
    eye.says = lambda call, row: gun() if call == 1 else []
    result = leading(f'steer = ["prompt-projection"]\n{concepts}').generate(pipe, "a gun 0", seed=5, **STEPS)
    assert [step.cosine for step in result.attempts[0][1].trace] == pytest.approx([1] * 10, abs=1e-4)
    eye.says = lambda call, row: []
    result = leading(f'default = "prompt-projection"\n{concepts}').generate(pipe, "a gun 0", seed=5, **STEPS)
    assert [step.cosine for step in result.attempts[0][0].trace] == pytest.approx([1] * 10, abs=1e-4)


ALL = "a gun, an image showing violence, "


@pytest.mark.parametrize(
    ("guidance", "prompt", "expected", "from_all"),
    [
        ('default = "sld-weak"', "a cat", "sld-weak", True),
        ('default = "sld-weak"\nreview = "sld-strong"', "a cat", "sld-weak", True),
        ('default = "sld-weak"\nreview = "sld-strong"', "a gun 0.4", "sld-strong", False),
        ('default = "sld-weak"', "a gun 0.4", "sld-weak", False),
        ('review = "sld-strong"', "a cat", None, False),
        ('steer = ["sld-max"]', "a gun 0.7", "sld-max", False),
    ],
)
def test_the_prompt_says_how_strongly(
    leading: Callable[..., Guard], pipe: Any, guidance: str, prompt: str, expected: str | None, from_all: bool
) -> None:
    guard = leading(
        f'{guidance}\nconcepts = {{ gun = "a gun" }}', "", "{ review = 0.3, steer = 0.6, block = 0.8 }"
    )
    result = guard.generate(pipe, prompt, seed=5, **STEPS)
    assert len(result.images) == 1
    (tried,) = result.attempts.get(0, (None,))
    assert (tried.guidance if tried else None) == expected
    if tried:
        concept = tried.concepts[0]
        assert concept.startswith(ALL) if from_all else concept == "a gun"


def test_a_prompt_to_steer_is_blocked_where_nothing_can(leading: Callable[..., Guard], pipe: Any) -> None:
    guard = leading('review = "sld-strong"', "", "{ review = 0.3, steer = 0.6, block = 0.8 }")
    result = guard.generate(pipe, ["a gun 0.7", "a cat"], seed=5, **STEPS)
    assert result.indices == (1,)
    assert result.verdicts[0].action == "block"
    assert "has no guidance to try" in result.verdicts[0].reasons[0]


@pytest.mark.parametrize(
    "says",
    [
        [Finding("csae", 0.9, "eye")],
        [Finding("csae", 0.9, "eye"), *gun()],
        [Finding("gun", 0.9, "eye"), Finding("privacy", 0.9, "eye")],
    ],
)
def test_what_nothing_stands_for_is_never_drawn_again(
    leading: Callable[..., Guard], pipe: Any, eye: Eye, says: list[Finding], write_policy: Callable[..., Path]
) -> None:
    guard = leading('steer = ["sld-max"]')
    privacy = {"privacy": CategoryRule(image=Thresholds(block=0.5))}
    policy = guard.policy.model_copy(update={"categories": {**guard.policy.categories, **privacy}})
    eye.says = lambda call, row: says
    result = guard.with_policy(policy).generate(pipe, "a cat", seed=5, **STEPS)
    assert (result.images, result.attempts, eye.sizes) == ((), {}, [1])


def test_a_filter_that_fails_is_no_reason_to_draw_again(
    leading: Callable[..., Guard], pipe: Any, eye: Eye
) -> None:
    def fail(call: int, row: int) -> list[Finding]:
        raise RuntimeError("broken")

    eye.says = fail
    result = leading('steer = ["sld-max"]').generate(pipe, "a cat", seed=5, **STEPS)
    assert (result.images, result.attempts, eye.sizes) == ((), {}, [1])


class Canvas:
    """A pipeline that nobody can look into."""

    def __call__(self, prompt: list[str], num_images_per_prompt: int = 1, **_: Any) -> Any:
        class Answer:
            images = [Image.new("RGB", (8, 8))] * len(prompt) * num_images_per_prompt

        return Answer()


def test_a_pipeline_that_cannot_be_guided_is_guarded_all_the_same(
    leading: Callable[..., Guard], eye: Eye
) -> None:
    eye.says = lambda call, row: gun()
    result = leading('steer = ["sld-max"]').generate(Canvas(), "a cat", seed=5)
    assert (result.images, eye.sizes) == ((), [1])
    assert any("no image could be steered away from harm" in note for note in result.notes)
    with pytest.raises(ModelError, match="no text conditioning"):
        leading('default = "sld-weak"').generate(Canvas(), "a cat", seed=5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("negative", [None, "a dog"])
def test_flux_is_led_away_with_the_scale_of_the_call(
    leading: Callable[..., Guard], pipe: Any, eye: Eye, negative: str | None
) -> None:
    made = flux(pipe)
    made.set_progress_bar_config(disable=True)
    eye.says = lambda call, row: gun() if call == 1 else []
    options = {**STEPS, "max_sequence_length": 16}
    if negative:
        options |= {"negative_prompt": negative, "true_cfg_scale": 4.0}
    result = leading('steer = ["sld-max"]').generate(made, "a cat", seed=5, **options)
    assert len(result.images) == 1
    assert any(step.acting for step in result.attempts[0][1].trace)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            'default = "sld-storng"',
            'there is no guidance "sld-storng"; available: erasure, .*did you mean "sld-strong"',
        ),
        ('steer = "sld-max"', "steer"),
        ('steers = ["sld-max"]', 'did you mean "steer"'),
    ],
)
def test_the_table_makes_sense(leading: Callable[..., Guard], table: str, said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        leading(table)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("projection", "prompt-projection"),
        *((each, f"sld-{each}") for each in ("weak", "medium", "strong", "max")),
    ],
)
def test_earlier_names_are_aliases(write_policy: Callable[..., Path], alias: str, name: str) -> None:
    table = f'[guidance]\ndefault = "{alias}"\nreview = "{name}"\nsteer = ["erasure", "{alias}"]\n\n[filters]'
    rule = Policy.load(write_policy(("[filters]", table))).guidance
    assert rule
    assert (rule.default, rule.review, rule.steer) == (name, name, ("erasure", name))
    assert rule.names == (name, "erasure")


class Flip:
    """A third-party guidance without a base class: it negates what the scheduler is given.

    It acts on all images of a call alike.
    """

    name, cost, concept_per_image, edits_conditioning = "flip", 3, False, False
    built: ClassVar[list[Any]] = []

    def __init__(self, concepts: Sequence[Any], bounded: bool, scale: float = 1.0) -> None:
        self.concepts = concepts
        self.traces: tuple[Trace, ...] = ()
        self.built.append(self)

    def attach(self, pipe: Any, fixed_batch: bool = False) -> Flip:
        self._scheduler, step = pipe.scheduler, pipe.scheduler.step

        def flipped(output: Any, *args: Any, **kwargs: Any) -> Any:
            self.traces = (Trace((TraceStep(1.0, 0.0, 1.0, 1.0, -1.0),)),)
            return step(-output, *args, **kwargs)

        pipe.scheduler.step = flipped
        return self

    def guides(self, image: int) -> bool:
        return bool(self.traces)

    def detach(self) -> None:
        del self._scheduler.step

    def __enter__(self) -> Flip:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()


def test_a_guidance_of_others_guides_each_image_in_a_call_of_its_own(
    leading: Callable[..., Guard], pipe: Any, eye: Eye, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._factories, ("guidance", "flip"), Flip)
    Flip.built.clear()
    eye.says = lambda call, row: gun() if call == 1 and row else []
    result = leading('steer = ["flip"]\nconcepts = { gun = "a gun" }').generate(
        pipe, PROMPTS, seed=5, **STEPS
    )
    assert result.indices == (0, 1, 2)
    assert {i: [tried.guidance for tried in tries] for i, tries in result.attempts.items()} == {
        1: [None, "flip"],
        2: [None, "flip"],
    }
    assert [[next(iter(each)) for each in made.concepts] for made in Flip.built[1:]] == [["a gun"], ["a gun"]]
    plan = GuidancePlan("flip", ("a gun",), ("a gun",), {"a gun": 1.0})
    assert (plan.cost, plan.shares_calls) == (3, False)


def test_what_is_no_guidance_is_refused(
    leading: Callable[..., Guard], pipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nameless:
        def __init__(self, **_: Any) -> None:
            self.concepts: list[Any] = []

    monkeypatch.setitem(registry._factories, ("guidance", "nameless"), Nameless)
    monkeypatch.setitem(registry._factories, ("guidance", "no-concepts"), lambda: None)
    with pytest.raises(RegistryError, match='the guidance "nameless" has no name'):
        leading('steer = ["nameless"]').generate(pipe, "a cat", **STEPS)
    with pytest.raises(RegistryError, match='"no-concepts" takes the options none'):
        leading('steer = ["no-concepts"]').generate(pipe, "a cat", **STEPS)


def test_concepts_stand_for_what_is_known(write_policy: Callable[..., Path], pipe: Any) -> None:
    path = write_policy(
        ("[filters]", '[guidance]\nconcepts = { gnu = "a gun" }\n\n[filters]'),
        ('image = ["never"]', 'image = ["storybook-image"]'),
    )
    with pytest.raises(PolicyError, match='did you mean "gun"'):
        Guard.from_policy(path).generate(pipe, "a cat", **STEPS)


def test_the_trace_of_an_image_is_that_of_its_own_guidance(policy: Policy, pipe: Any) -> None:
    """The first image is not at risk, and shares its call with one that Safe Latent Diffusion steers."""
    made, steering = private_pipeline(pipe), Steering(policy, pipe)
    spared = steering, GuidancePlan("prompt-projection", ("a gun",), (), {"a gun": 1e-9})
    spared[0]._risk = PromptSimilarityRisk(0.9999)
    steered = Steering(policy, pipe), GuidancePlan("sld-medium", ("a gun",), ("a gun",), {"a gun": 1.0})
    traces = []
    for plans in ([spared], [spared, steered]):
        with guided(made, plans, {"guidance_scale": 7.5}) as trace_of:
            draw(made, ["a cat", "a gun"][: len(plans)], height=16, width=16)
            traces.append(trace_of(0))
    assert traces == [(), ()]
