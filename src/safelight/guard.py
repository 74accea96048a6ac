"""The guard: screens prompts, lets the pipeline draw, screens the pictures, releases what may leave."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safelight import registry
from safelight.arguments import checked_names
from safelight.errors import BlockedError, ImageError, PolicyError
from safelight.generation import Generation
from safelight.inputs import Inputs
from safelight.pictures import PictureLimits, Source
from safelight.policy import Policy, check_labels
from safelight.protocols import Pipeline
from safelight.request import Request, RequestLimits, checked_batch, limits_of, prompt_problem
from safelight.screening import PictureScreen, Screen
from safelight.types import STAGES, Found, Result, Stage, Verdict

Builder = Callable[[], Any]


class Guard:
    """A policy and its filters around any diffusers pipeline. It fails closed.

    ``filters`` has by stage the functions that make the filters, cheapest first: they are called when
    the stage first runs. A picture beyond ``picture_limits`` is blocked, a request beyond ``request_limits``
    refused; ``prompt_limit`` is short for the characters of one prompt. ``allow_arguments`` are names of
    arguments of the pipeline that may hold what nobody can screen, such as "latents".
    """

    def __init__(
        self,
        policy: Policy,
        filters: Mapping[Stage, Sequence[Builder]],
        *,
        without_image_filter: bool = False,
        prompt_limit: int | None = None,
        picture_limits: PictureLimits | None = None,
        request_limits: RequestLimits | None = None,
        allow_arguments: Sequence[str] = (),
    ) -> None:
        self.policy = policy
        self.without_image_filter = without_image_filter
        self.request_limits = limits_of(request_limits, prompt_limit)
        self.prompt_limit = self.request_limits.characters
        self.picture_limits = picture_limits
        self.allow_arguments = checked_names(allow_arguments)
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
        prompt_limit: int | None = None,
        picture_limits: PictureLimits | None = None,
        request_limits: RequestLimits | None = None,
        allow_arguments: Sequence[str] = (),
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
            request_limits=request_limits,
            allow_arguments=allow_arguments,
        )

    def with_policy(self, policy: Policy) -> Guard:
        """The same filters under another policy."""
        return Guard(
            policy,
            {stage: screen.builders for stage, screen in self._screens.items()},
            without_image_filter=self.without_image_filter,
            picture_limits=self.picture_limits,
            request_limits=self.request_limits,
            allow_arguments=self.allow_arguments,
        )

    def screen_prompts(self, prompts: Sequence[str]) -> list[Verdict]:
        """One verdict per prompt; one that is empty, too long or not text is blocked, with the reason."""
        texts = checked_batch(prompts)
        return self._screens["prompt"](texts, "prompt", problems=self._problems(texts))

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
        return self._screens["image"](_checked_images(images), "picture")

    def screen_pairs(self, pairs: Sequence[tuple[str, Source]]) -> list[Verdict]:
        """One verdict per prompt and picture, by the filters that compare the two."""
        texts = checked_batch([prompt for prompt, _ in pairs])
        both = list(zip(texts, (image for _, image in pairs), strict=True))
        return self._screens["pair"](both, "picture", problems=self._problems(texts))

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
        request = Request.of(prompt, n, seed, self.request_limits)
        inputs = self._inputs(arguments)
        return Generation(self._stages(), pipe, request, inputs, inputs.arguments).run()

    def _inputs(self, arguments: Mapping[str, Any]) -> Inputs:
        """Read the arguments of a pipeline call. Raises ``RequestError`` for what cannot be screened."""
        return Inputs.of(arguments, self.allow_arguments, self.request_limits, self.picture_limits)

    def wrap(self, pipe: Pipeline) -> GuardedPipeline:
        """The pipeline's own call, screened."""
        return GuardedPipeline(self, pipe)

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


class GuardedPipeline:
    """Called like the pipeline it guards, positional arguments included; returns a ``Result``."""

    def __init__(self, guard: Guard, pipe: Pipeline) -> None:
        self.guard = guard
        self.pipe = pipe

    def __call__(self, *args: Any, **kwargs: Any) -> Result:
        """Raises ``BlockedError`` if no picture may be released, and what ``Guard.generate`` raises."""
        arguments = _named(self.pipe, args, kwargs)
        self.guard._inputs(
            {name: each for name, each in arguments.items() if name != "num_images_per_prompt"}
        )
        n = arguments.pop("num_images_per_prompt", None)
        result = self.guard.generate(
            self.pipe, arguments.pop("prompt", ""), n=1 if n is None else n, **arguments
        )
        if not result.images:
            worst = max(result.verdicts, key=lambda verdict: verdict.action.severity)
            raise BlockedError(f'the policy "{worst.policy}" says {worst.explain()}.', result.verdicts)
        return result


def _named(pipe: Pipeline, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The call's arguments by name."""
    bound = inspect.signature(pipe.__call__).bind(*args, **kwargs)
    extra = bound.arguments.pop("kwargs", {})
    return {**bound.arguments, **extra}


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
