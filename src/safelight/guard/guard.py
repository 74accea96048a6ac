"""The guard: screens prompts, runs the pipeline, screens the images, and releases those that are allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from safelight.audit.request_log import Observer, RequestLog
from safelight.concurrency.deadline import Deadline
from safelight.errors import ImageError, PolicyError, unknown_name
from safelight.guard.arguments import checked_names
from safelight.guard.generation import Generation
from safelight.guard.guarded_pipeline import GuardedPipeline
from safelight.guard.inputs import Inputs
from safelight.guard.request import (
    Request,
    RequestLimits,
    check_count,
    checked_batch,
    limits_of,
    prompt_problem,
)
from safelight.guard.steering import check_guidance
from safelight.images import ImageLimits, Source
from safelight.policy import Policy, check_labels, check_reach
from safelight.protocols import Pipeline
from safelight.screening.filter_set import Builder, FilterSet
from safelight.screening.listed_filter import listed_filters
from safelight.screening.screen import ImageScreen, Screen
from safelight.types import STAGES, FilterFindings, Result, Stage, Verdict


class Guard:
    """Applies a policy and its filters to the calls of any diffusers pipeline; it fails closed.

    ``filters`` maps each stage to functions that build its filters, cheapest first; they are called when the
    stage first runs. An image beyond ``image_limits`` is blocked, and a request beyond ``request_limits`` is
    refused; ``prompt_limit`` is a shorthand for the limit on the characters of one prompt.
    ``allow_arguments`` names arguments of the pipeline that are passed on although they cannot be screened,
    such as "latents". ``stages`` are the stages that the guard is used for: ``load`` builds their filters,
    and ``from_policy`` checks that this is possible. Any other stage is checked when it is used.
    """

    def __init__(
        self,
        policy: Policy,
        filters: Mapping[Stage, Sequence[Builder] | FilterSet],
        *,
        without_image_filter: bool = False,
        prompt_limit: int | None = None,
        image_limits: ImageLimits | None = None,
        stages: Sequence[Stage] = STAGES,
        request_limits: RequestLimits | None = None,
        allow_arguments: Sequence[str] = (),
    ) -> None:
        self.policy = policy
        self.stages = _stages_of(stages, without_image_filter)
        self.without_image_filter = without_image_filter
        self.request_limits = limits_of(request_limits, prompt_limit)
        self.prompt_limit = self.request_limits.characters
        self.image_limits = image_limits
        self.allow_arguments = checked_names(allow_arguments)
        self.request_log = RequestLog(policy)
        self._screens: dict[Stage, Screen] = {
            "prompt": Screen("prompt", policy, filters.get("prompt", ())),
            "image": ImageScreen("image", policy, filters.get("image", ()), image_limits),
            "pair": ImageScreen("pair", policy, filters.get("pair", ()), image_limits),
        }

    @classmethod
    def from_policy(
        cls,
        name_or_path: str | Path,
        without_image_filter: bool = False,
        prompt_limit: int | None = None,
        image_limits: ImageLimits | None = None,
        stages: Sequence[Stage] = STAGES,
        request_limits: RequestLimits | None = None,
        allow_arguments: Sequence[str] = (),
    ) -> Guard:
        """Return the guard for a packaged policy or a TOML file; ``load`` builds its filters.

        This loads no filter, but detects most configuration problems in advance. Raises ``PolicyError`` for
        an invalid policy, a missing file and thresholds at a stage without filters, ``RegistryError`` for a
        filter or guidance that is unknown or does not take its options, and ``MissingExtraError`` if an
        optional dependency is not installed.
        """
        policy = Policy.load(name_or_path)
        listed = {stage: list(listed_filters(policy, stage)) for stage in STAGES}
        guard = cls(
            policy,
            {stage: [each.build for each in filters] for stage, filters in listed.items()},
            without_image_filter=without_image_filter,
            prompt_limit=prompt_limit,
            image_limits=image_limits,
            stages=stages,
            request_limits=request_limits,
            allow_arguments=allow_arguments,
        )
        check_guidance(policy)
        for stage in guard.stages:
            for each in listed[stage]:
                each.check()
            if not listed[stage]:
                check_reach(policy, stage, ())
        return guard

    def load(self) -> Self:
        """Build every filter of the guard's stages now rather than on first use, and return the guard.

        Raises what the filters raise, and ``PolicyError`` for a label that no filter reports and for
        thresholds that no filter can reach.
        """
        self._load({stage: self._screens[stage] for stage in self.stages if self._screens[stage].builders})
        return self

    def with_policy(self, policy: Policy) -> Guard:
        """Return a guard with the same loaded filters and the same observers under another policy."""
        guard = Guard(
            policy,
            {stage: screen.filter_set for stage, screen in self._screens.items()},
            without_image_filter=self.without_image_filter,
            image_limits=self.image_limits,
            stages=self.stages,
            request_limits=self.request_limits,
            allow_arguments=self.allow_arguments,
        )
        guard.request_log = self.request_log.under(policy)
        return guard

    def observe(self, observer: Observer) -> None:
        """Call ``observer`` with the log record of each request once the request is over.

        It is called in the request's thread; an ``AsyncGuard`` calls it in a thread other than that of the
        event loop. What it raises is logged and does not change the request.
        """
        self.request_log.observe(observer)

    def screen_prompts(self, prompts: Sequence[str], *, deadline_s: float | None = None) -> list[Verdict]:
        """Return one verdict per prompt; a prompt that is empty, too long or not text is blocked.

        Raises ``DeadlineError`` if it takes longer than ``deadline_s`` seconds.
        """
        with self.request_log.watch("screen_prompts", prompts) as request:
            texts = checked_batch(prompts)
            check_count(texts, "prompts")
            problems = self._problems(texts)
            screen, deadline = self._screens["prompt"], Deadline(deadline_s)
            request.verdicts = screen(texts, "prompt", problems=problems, deadline=deadline)
            return list(request.verdicts)

    def find(self, stage: Stage, items: Sequence[Any]) -> list[list[FilterFindings]]:
        """Return the findings of every filter of a stage in each item, without applying the policy.

        The items are prompts, images, or pairs of both. Images are screened frame by frame.
        """
        texts = {"prompt": items, "image": (), "pair": [prompt for prompt, *_ in items]}[stage]
        return self._screens[stage].find(items, self._problems(texts) if texts else None)

    def versions(self) -> dict[Stage, dict[str, str]]:
        """Load the filters and return the version of each, by stage and name."""
        used = {stage: screen for stage, screen in self._screens.items() if screen.builders}
        return {
            stage: {name: each.version for name, each in screen.filters.items()}
            for stage, screen in used.items()
        }

    def screen_images(self, images: Sequence[Source], *, deadline_s: float | None = None) -> list[Verdict]:
        """Return one verdict per image, that of its worst frame; an image that cannot be read is blocked.

        Raises what ``screen_prompts`` raises.
        """
        with self.request_log.watch("screen_images") as request:
            screen, deadline = self._screens["image"], Deadline(deadline_s)
            request.verdicts = screen(_checked_images(images), "image", deadline=deadline)
            return list(request.verdicts)

    def screen_pairs(
        self, pairs: Sequence[tuple[str, Source]], *, deadline_s: float | None = None
    ) -> list[Verdict]:
        """Return one verdict per pair of prompt and image, from the filters that compare the two.

        Raises what ``screen_prompts`` raises.
        """
        with self.request_log.watch("screen_pairs") as request:
            request.prompts = texts = checked_batch([prompt for prompt, _ in pairs])
            check_count(texts, "pairs")
            both = list(zip(texts, (image for _, image in pairs), strict=True))
            problems = self._problems(texts)
            screen, deadline = self._screens["pair"], Deadline(deadline_s)
            request.verdicts = screen(both, "image", problems=problems, deadline=deadline)
            return list(request.verdicts)

    def generate(
        self,
        pipe: Pipeline,
        prompt: str | Sequence[str],
        n: int = 1,
        seed: int | None = None,
        *,
        deadline_s: float | None = None,
        **arguments: Any,
    ) -> Result:
        """Generate ``n`` images for each prompt and return those that the policy allows.

        ``arguments`` are passed to the pipeline; texts and images in them are screened too. Image ``i`` is
        generated with ``seed + i``; without a seed a random one is chosen and reported in the result. The
        method is thread-safe, also for pipelines that share networks: calls that use the same network run one
        after the other, and no request changes the result of another. Screening and generation together may
        take ``deadline_s`` seconds. Raises ``RequestError`` for a request that cannot be generated or
        screened, ``FilterError`` or ``MissingExtraError`` if a stage has no filter, ``ModelError`` if the
        pipeline returns no images, and ``DeadlineError`` if the request takes too long.
        """
        with self.request_log.watch("generate", prompt, arguments) as watched:
            watched.result = self.prepare(pipe, prompt, n, seed, Deadline(deadline_s), **arguments).run()
            return watched.result

    def prepare(
        self,
        pipe: Pipeline,
        prompt: str | Sequence[str],
        n: int = 1,
        seed: int | None = None,
        deadline: Deadline | None = None,
        **arguments: Any,
    ) -> Generation:
        """Return the generation that ``generate`` runs, for callers that run it step by step.

        Raises what ``generate`` raises.
        """
        inputs = self._inputs(arguments, deadline)
        request = Request.of(prompt, n, seed, self.request_limits)
        return Generation(self._stages(), pipe, request, inputs, deadline)

    def _inputs(self, arguments: Mapping[str, Any], deadline: Deadline | None = None) -> Inputs:
        """Read the arguments of a pipeline call. Raises ``RequestError`` for what cannot be screened."""
        limits = self.request_limits, self.image_limits
        return Inputs.of(arguments, self.allow_arguments, *limits, deadline)

    def wrap(self, pipe: Pipeline, placeholders: bool = False) -> GuardedPipeline:
        """Return a guarded pipeline, which is called like ``pipe`` and whose calls are screened.

        With ``placeholders``, each blocked image is replaced by a placeholder that states the reason.
        """
        return GuardedPipeline(self, pipe, placeholders)

    def _stages(self) -> dict[Stage, Screen]:
        """Return the screens for a generation, and load their filters before anything is generated."""
        stages = dict(self._screens)
        if self.without_image_filter:
            del stages["image"]
        if not stages["pair"].builders:
            del stages["pair"]
        self._load(stages)
        return stages

    def _load(self, screens: Mapping[Stage, Screen]) -> None:
        """Load the filters and check that they report the labels that the policy uses."""
        for screen in screens.values():
            screen.load()
        reported = {
            stage: [getattr(each, "labels", None) for each in screen.filters.values()]
            for stage, screen in screens.items()
        }
        # A label may be reported by the filters of another stage.
        if all(stage in screens for stage in STAGES if self._screens[stage].builders):
            check_labels(self.policy, [labels for each in reported.values() for labels in each])
        for stage, labels in reported.items():
            check_reach(self.policy, stage, labels)

    def _problems(self, texts: Sequence[str]) -> list[str | None]:
        return [prompt_problem(text, self.prompt_limit) for text in texts]


def _stages_of(stages: Sequence[Stage], without_image_filter: bool) -> tuple[Stage, ...]:
    """Return the stages to check, in order. Raises ``PolicyError`` for an unknown stage."""
    wanted = [stages] if isinstance(stages, str) else list(stages)
    if unknown := [stage for stage in wanted if stage not in STAGES]:
        raise PolicyError(unknown_name("stage", str(unknown[0]), STAGES))
    return tuple(s for s in STAGES if s in wanted and not (s == "image" and without_image_filter))


def _checked_images(images: Sequence[Source]) -> list[Source]:
    if not isinstance(images, list | tuple):
        raise ImageError("give a list of images.")
    if not images:
        raise ImageError("the list of images is empty; give at least one.")
    check_count(images, "images")
    return list(images)
