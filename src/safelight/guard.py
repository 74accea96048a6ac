"""The guard: screens prompts, lets the pipeline draw, screens the pictures, releases what may leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safelight import registry
from safelight.errors import ImageError, PolicyError
from safelight.generation import Generation
from safelight.guarded_pipeline import GuardedPipeline
from safelight.inputs import Inputs
from safelight.pictures import PictureLimits, Source
from safelight.policy import Policy, check_labels
from safelight.protocols import Pipeline
from safelight.request import PROMPT_LIMIT, Request, checked_batch, prompt_problem
from safelight.request_log import Observer, RequestLog
from safelight.screening import PictureScreen, Screen
from safelight.types import STAGES, Found, Result, Stage, Verdict

Builder = Callable[[], Any]


class Guard:
    """A policy and its filters around any diffusers pipeline. It fails closed.

    ``filters`` has by stage the functions that make the filters, cheapest first: they are called when
    the stage first runs. ``prompt_limit`` is in characters; a picture beyond ``picture_limits`` is blocked.
    """

    def __init__(
        self,
        policy: Policy,
        filters: Mapping[Stage, Sequence[Builder]],
        *,
        without_image_filter: bool = False,
        prompt_limit: int = PROMPT_LIMIT,
        picture_limits: PictureLimits | None = None,
    ) -> None:
        self.policy = policy
        self.without_image_filter = without_image_filter
        self.prompt_limit = prompt_limit
        self.picture_limits = picture_limits
        self.request_log = RequestLog(policy)
        self._screens: dict[Stage, Screen] = {
            "prompt": Screen("prompt", policy, filters.get("prompt", ())),
            "image": PictureScreen("image", policy, filters.get("image", ()), picture_limits),
            "pair": PictureScreen("pair", policy, filters.get("pair", ()), picture_limits),
        }

    @classmethod
    def from_policy(
        cls,
        name_or_path: str | Path,
        without_image_filter: bool = False,
        prompt_limit: int = PROMPT_LIMIT,
        picture_limits: PictureLimits | None = None,
    ) -> Guard:
        """The guard that a packaged policy or a TOML file describes.

        Raises ``PolicyError``, and ``RegistryError`` for a filter that is unknown or wrongly configured.
        """
        policy = Policy.load(name_or_path)
        filters = {
            stage: [_builder(policy, stage, name) for name in policy.filters.of(stage)] for stage in STAGES
        }
        return cls(
            policy,
            filters,
            without_image_filter=without_image_filter,
            prompt_limit=prompt_limit,
            picture_limits=picture_limits,
        )

    def with_policy(self, policy: Policy) -> Guard:
        """The same filters and observers under another policy."""
        guard = Guard(
            policy,
            {stage: screen.builders for stage, screen in self._screens.items()},
            without_image_filter=self.without_image_filter,
            prompt_limit=self.prompt_limit,
            picture_limits=self.picture_limits,
        )
        guard.request_log = self.request_log.under(policy)
        return guard

    def observe(self, observer: Observer) -> None:
        """Call ``observer`` with the record of each request once it is over, of the kind that is logged.

        It is called in the request's thread, and whatever it raises is logged and changes nothing.
        """
        self.request_log.observe(observer)

    def screen_prompts(self, prompts: Sequence[str]) -> list[Verdict]:
        """One verdict per prompt; one that is empty, too long or not text is blocked, with the reason."""
        with self.request_log.watch("screen_prompts", prompts) as request:
            texts = checked_batch(prompts)
            request.verdicts = self._screens["prompt"](texts, "prompt", problems=self._problems(texts))
            return list(request.verdicts)

    def find(self, stage: Stage, items: Sequence[Any]) -> list[list[Found]]:
        """What every filter of a stage says of each prompt, of each picture frame by frame, or of each pair
        of a prompt and one; whatever the policy makes of it."""
        texts = {"prompt": items, "image": (), "pair": [prompt for prompt, *_ in items]}[stage]
        return self._screens[stage].find(items, self._problems(texts) if texts else None)

    def versions(self) -> dict[Stage, dict[str, str]]:
        """Of every filter of the stages that have any; loads them."""
        used = {stage: screen for stage, screen in self._screens.items() if screen.builders}
        return {
            stage: {name: each.version for name, each in screen.filters.items()}
            for stage, screen in used.items()
        }

    def screen_images(self, images: Sequence[Source]) -> list[Verdict]:
        """One verdict per picture, its worst frame's; one that cannot be read is blocked, with the reason."""
        with self.request_log.watch("screen_images") as request:
            request.verdicts = self._screens["image"](_checked_images(images), "picture")
            return list(request.verdicts)

    def screen_pairs(self, pairs: Sequence[tuple[str, Source]]) -> list[Verdict]:
        """One verdict per prompt and picture, by the filters that compare the two."""
        with self.request_log.watch("screen_pairs") as request:
            request.prompts = texts = checked_batch([prompt for prompt, _ in pairs])
            both = list(zip(texts, (image for _, image in pairs), strict=True))
            request.verdicts = self._screens["pair"](both, "picture", problems=self._problems(texts))
            return list(request.verdicts)

    def generate(
        self,
        pipe: Pipeline,
        prompt: str | Sequence[str],
        n: int = 1,
        seed: int | None = None,
        **arguments: Any,
    ) -> Result:
        """``n`` pictures for each prompt; ``arguments`` go to the pipeline, after texts and pictures in them
        were screened too.

        Picture ``i`` is made with ``seed + i``; without a seed one is drawn, and reported. Raises
        ``RequestError`` for what cannot be drawn or screened, ``FilterError`` or ``MissingExtraError``
        where a stage has no filter, ``ModelError`` if the pipeline gives no pictures.
        """
        with self.request_log.watch("generate", prompt, arguments) as watched:
            inputs = Inputs.of(arguments)
            request = Request.of(prompt, n, seed, self.prompt_limit)
            watched.result = Generation(self._stages(), pipe, request, inputs, arguments).run()
            return watched.result

    def wrap(self, pipe: Pipeline, placeholders: bool = False) -> GuardedPipeline:
        """Return an object that is used as ``pipe`` is, and whose calls are screened.

        With ``placeholders``, a card that says why stands in the place of each image that was blocked.
        """
        return GuardedPipeline(self, pipe, placeholders)

    def _stages(self) -> dict[Stage, Screen]:
        """The stages that a generation passes through, with their filters loaded before anything is drawn."""
        stages = dict(self._screens)
        if self.without_image_filter:
            del stages["image"]
        if not stages["pair"].builders:
            del stages["pair"]
        for screen in stages.values():
            screen.load()
        if not self.without_image_filter:
            filters = [each for screen in stages.values() for each in screen.filters.values()]
            check_labels(self.policy, [getattr(each, "labels", None) for each in filters])
        return stages

    def _problems(self, texts: Sequence[str]) -> list[str | None]:
        return [prompt_problem(text, self.prompt_limit) for text in texts]


def _builder(policy: Policy, stage: Stage, name: str) -> Builder:
    options = dict(policy.filters.options.get(name, {}))
    component = options.pop("use", name)
    if not isinstance(component, str) or "name" in options:
        raise PolicyError(f'in the options of "{name}", use must be text, and name cannot be set.')
    return registry.bind(f"{stage}_filter", component, name=name, **options)


def _checked_images(images: Sequence[Source]) -> list[Source]:
    if not isinstance(images, list | tuple):
        raise ImageError("give a list of pictures.")
    if not images:
        raise ImageError("the list of pictures is empty; give at least one.")
    return list(images)
