"""The guard: screens prompts, lets the pipeline draw, screens the images, releases what may leave."""

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
from safelight.images import ImageLimits, Source
from safelight.policy import Policy, check_labels, check_reach
from safelight.protocols import Pipeline
from safelight.screening.filter_set import Builder, FilterSet
from safelight.screening.listed_filter import listed_filters
from safelight.screening.screen import ImageScreen, Screen
from safelight.types import STAGES, FilterFindings, Result, Stage, Verdict


class Guard:
    """A policy and its filters around any diffusers pipeline. It fails closed.

    ``filters`` has by stage the functions that make the filters, cheapest first: they are called when
    the stage first runs. An image beyond ``image_limits`` is blocked, a request beyond ``request_limits``
    refused; ``prompt_limit`` is short for the characters of one prompt. ``allow_arguments`` are names of
    arguments of the pipeline that may hold what nobody can screen, such as "latents". ``stages`` are those
    that it is used for: ``load`` makes their filters, and ``from_policy`` checks that it can. Any other is
    checked when it is used.
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
        """The guard that a packaged policy or a TOML file describes; ``load`` makes its filters.

        Loads nothing, and yet fails now for most of what would fail later: raises ``PolicyError`` for a
        policy that is wrong, a file that is missing and thresholds at a stage without filters,
        ``RegistryError`` for a filter that is unknown or does not take its options, ``MissingExtraError``
        where an optional part is not installed.
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
        for stage in guard.stages:
            for each in listed[stage]:
                each.check()
            if not listed[stage]:
                check_reach(policy, stage, ())
        return guard

    def load(self) -> Self:
        """Makes every filter of its stages now rather than on first use; gives the guard itself.

        Raises what the filters raise, and ``PolicyError`` for a label that no filter reports and for
        thresholds that none can reach.
        """
        self._load({stage: self._screens[stage] for stage in self.stages if self._screens[stage].builders})
        return self

    def with_policy(self, policy: Policy) -> Guard:
        """The same filters and observers under another policy: the filters are loaded once, for both."""
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
        """Call ``observer`` with the record of each request once it is over, of the kind that is logged.

        It is called in the request's thread, by an ``AsyncGuard`` in a thread beside the event loop. Whatever
        it raises is logged and changes nothing.
        """
        self.request_log.observe(observer)

    def screen_prompts(self, prompts: Sequence[str], *, deadline_s: float | None = None) -> list[Verdict]:
        """One verdict per prompt; one that is empty, too long or not text is blocked, with the reason.

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
        """What every filter of a stage says of each prompt, of each image frame by frame, or of each pair
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

    def screen_images(self, images: Sequence[Source], *, deadline_s: float | None = None) -> list[Verdict]:
        """One verdict per image, its worst frame's; one that cannot be read is blocked, with the reason.

        Errors as ``screen_prompts``.
        """
        with self.request_log.watch("screen_images") as request:
            screen, deadline = self._screens["image"], Deadline(deadline_s)
            request.verdicts = screen(_checked_images(images), "image", deadline=deadline)
            return list(request.verdicts)

    def screen_pairs(
        self, pairs: Sequence[tuple[str, Source]], *, deadline_s: float | None = None
    ) -> list[Verdict]:
        """One verdict per prompt and image, by the filters that compare the two; errors as
        ``screen_prompts``."""
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
        """``n`` images for each prompt; ``arguments`` go to the pipeline, after texts and images in them
        were screened too.

        Image ``i`` is made with ``seed + i``; without a seed one is drawn, and reported. Any number of
        threads may call this, with one pipeline or with several that share networks: the calls of a network
        take turns, and nothing of one request changes the result of another. Screening and drawing together
        may take ``deadline_s`` seconds. Raises ``RequestError`` for what cannot be drawn or screened,
        ``FilterError`` or ``MissingExtraError`` where a stage has no filter, ``ModelError`` if the pipeline
        gives no images, ``DeadlineError`` if it takes too long.
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
        """The generation that ``generate`` runs, for who runs it step by step; errors as there."""
        inputs = self._inputs(arguments, deadline)
        request = Request.of(prompt, n, seed, self.request_limits)
        return Generation(self._stages(), pipe, request, inputs, deadline)

    def _inputs(self, arguments: Mapping[str, Any], deadline: Deadline | None = None) -> Inputs:
        """Read the arguments of a pipeline call. Raises ``RequestError`` for what cannot be screened."""
        limits = self.request_limits, self.image_limits
        return Inputs.of(arguments, self.allow_arguments, *limits, deadline)

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
        self._load(stages)
        return stages

    def _load(self, screens: Mapping[Stage, Screen]) -> None:
        """Makes the filters, and compares what they report with what the policy says of it."""
        for screen in screens.values():
            screen.load()
        reported = {
            stage: [getattr(each, "labels", None) for each in screen.filters.values()]
            for stage, screen in screens.items()
        }
        # A label may be one that the filters of another stage report.
        if all(stage in screens for stage in STAGES if self._screens[stage].builders):
            check_labels(self.policy, [labels for each in reported.values() for labels in each])
        for stage, labels in reported.items():
            check_reach(self.policy, stage, labels)

    def _problems(self, texts: Sequence[str]) -> list[str | None]:
        return [prompt_problem(text, self.prompt_limit) for text in texts]


def _stages_of(stages: Sequence[Stage], without_image_filter: bool) -> tuple[Stage, ...]:
    """Those of ``stages`` that have filters to run, in order."""
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
