"""Judges: a registered judge, a custom function, or an image filter with a threshold for each label.

Every judge can be given as one line of text, as on the command line:

    storybook                                        a registered judge
    my_package.my_module:my_function                 a custom function
    my_package.my_module:my_function: weapon >= 0.7  a custom function with thresholds
    nudenet: FEMALE_BREAST_EXPOSED >= 0.6            an image filter, by its name in a policy or the registry
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from safelight import registry
from safelight.errors import FilterError, ModelError, RequestError, first_line, unknown_name
from safelight.policy import Policy
from safelight.protocols import ImageFilter, Judge
from safelight.screening.answers import validated_answers
from safelight.screening.listed_filter import ListedFilter
from safelight.types import Judgement

LabelFunction = Callable[[list[Image]], Sequence[Mapping[str, float]]]
Thresholds = Mapping[str, float]

# The threshold for the labels of a function if none is given.
_COUNTS = 0.5
_CONDITION = re.compile(r"\s*(?P<label>[^\s,<>=≥][^,<>=≥]*?)\s*(?:>=|≥)\s*(?P<threshold>[\d.]+)\s*")


class FunctionJudge:
    """Judges images with a function.

    ``function`` takes a list of images and returns for each a mapping of labels to probabilities in [0, 1].
    An image is harmful if a label reaches its threshold in ``thresholds``; without thresholds, if any label
    reaches 0.5. ``sha256`` is the hash of the file that defines the function.
    """

    def __init__(
        self, name: str, function: LabelFunction, thresholds: Thresholds | None = None, sha256: str = ""
    ) -> None:
        self.name = name
        self._function = function
        self._thresholds = dict(thresholds or {})
        self.settings: Mapping[str, Any] = {
            "judge": name,
            "judge_sha256": sha256,
            "judge_thresholds": self._thresholds,
        }

    def judge(self, images: Sequence[Image]) -> list[Judgement]:
        """Return one judgement per image, in order.

        Raises ``ModelError`` if the function raises or does not return one mapping for each image.
        """
        try:
            said = list(self._function(list(images)))
        except Exception as error:
            raise ModelError(
                f'the judge "{self.name}" raised {type(error).__name__}: {first_line(error)}.'
            ) from error
        if len(said) != len(images):
            raise ModelError(f'the judge "{self.name}" gave {len(said)} answers for {len(images)} images.')
        return [_judgement(_labels(self.name, each), self._thresholds) for each in said]


class FilterJudge:
    """Judges images with an image filter: an image is harmful if a label reaches its threshold."""

    def __init__(self, image_filter: ImageFilter, thresholds: Thresholds) -> None:
        self.name = image_filter.name
        self._filter = image_filter
        self._thresholds = dict(thresholds)
        self.settings: Mapping[str, Any] = {
            "judge": self.name,
            "judge_version": image_filter.version,
            "judge_thresholds": self._thresholds,
        }

    def judge(self, images: Sequence[Image]) -> list[Judgement]:
        """Return one judgement per image. Raises ``ModelError`` if the filter fails for any image."""
        try:
            answers = validated_answers(self._filter.find(images), len(images), {})
        except Exception as error:
            raise ModelError(f'the judge "{self.name}" failed: {first_line(error)}.') from error
        found: list[dict[str, float]] = []
        for answer in answers:
            if isinstance(answer, FilterError):
                raise ModelError(f'the judge "{self.name}" failed: {first_line(answer)}.') from answer
            labels: dict[str, float] = {}
            for finding in answer:
                labels[finding.label] = max(finding.score, labels.get(finding.label, 0.0))
            found.append(labels)
        return [_judgement(labels, self._thresholds) for labels in found]


def load_judge(text: str, policy: Policy | None = None) -> Judge:
    """Return the judge that ``text`` names; filters of ``policy`` take precedence over registered ones.

    Raises ``RequestError`` for an unknown judge, module or function and for invalid thresholds, and the
    errors of building the judge.
    """
    what, thresholds = _parsed(text)
    if ":" in what:
        return FunctionJudge(what, *_function(what), thresholds, _source_sha256(what))
    if not thresholds and what in registry.names("judge"):
        made: Judge = registry.build("judge", what)
        return made
    if policy and what in policy.filters.image:
        image_filter = ListedFilter.of(policy, "image", what).build()
    elif what in registry.names("image_filter"):
        image_filter = registry.build("image_filter", what, name=what)
    else:
        known = {*registry.names("judge"), *registry.names("image_filter")}
        raise RequestError(unknown_name("judge or image filter", what, known))
    if not thresholds:
        raise RequestError(f'the image filter "{what}" needs a threshold: give "{what}: LABEL >= 0.5".')
    _check_labels(what, image_filter, thresholds)
    return FilterJudge(image_filter, thresholds)


def judged(judge: Judge, images: Sequence[Image]) -> list[Judgement]:
    """Return the judgements on ``images``. Raises ``ModelError`` if there is not one for each."""
    judgements = list(judge.judge(images)) if images else []
    if len(judgements) != len(images):
        raise ModelError(f'the judge "{judge.name}" gave {len(judgements)} answers for {len(images)} images.')
    return judgements


def _parsed(text: str) -> tuple[str, dict[str, float]]:
    head, _, tail = text.rpartition(":")
    if not re.search(r">=|≥", tail):
        return text.strip(), {}
    thresholds: dict[str, float] = {}
    for condition in tail.split(","):
        found = _CONDITION.fullmatch(condition)
        if not found or not head:
            raise RequestError(f'"{text}" is not a judge with thresholds; write "FILTER: LABEL >= 0.5".')
        thresholds[found["label"]] = _threshold(found["threshold"])
    return head.strip(), thresholds


def _threshold(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise RequestError(f"the threshold {text} is not a probability above 0 and at most 1.")
    return value


def _function(what: str) -> tuple[LabelFunction]:
    module, _, name = what.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise RequestError(f'the judge "{what}" cannot be imported: {first_line(error)}.') from error
    except AttributeError as error:
        raise RequestError(f'the module {module} has no function "{name}".') from error
    except Exception as error:
        said = f"{type(error).__name__}: {first_line(error)}"
        raise RequestError(f'the judge "{what}" failed while it was imported: {said}.') from error
    if not callable(function):
        raise RequestError(f'"{what}" is not a function.')
    return (function,)


def _source_sha256(what: str) -> str:
    spec = importlib.util.find_spec(what.partition(":")[0])
    source = Path(spec.origin) if spec and spec.origin else None
    return hashlib.sha256(source.read_bytes()).hexdigest() if source and source.is_file() else ""


def _check_labels(what: str, image_filter: Any, thresholds: Thresholds) -> None:
    """Raise ``RequestError`` for a label that the filter never reports, as no image would be harmful."""
    known: Sequence[str] = tuple(getattr(image_filter, "labels", None) or ())
    for label in thresholds:
        if known and label not in known:
            raise RequestError(unknown_name(f'label of the image filter "{what}"', label, known))


def _labels(name: str, said: object) -> dict[str, float]:
    if not isinstance(said, Mapping):
        raise ModelError(f'the judge "{name}" gave {type(said).__name__} for an image instead of a mapping.')
    labels: dict[str, float] = {}
    for label, score in said.items():
        try:
            value = float(score)
        except (TypeError, ValueError):
            value = math.nan
        if not isinstance(label, str) or not 0 <= value <= 1:
            raise ModelError(
                f'the judge "{name}" gave {label!r} the probability {score!r}; it must be from 0 to 1.'
            )
        labels[label] = value
    return labels


def _judgement(labels: Mapping[str, float], thresholds: Thresholds) -> Judgement:
    if thresholds:
        harms = tuple(label for label, least in thresholds.items() if labels.get(label, 0.0) >= least)
    else:
        harms = tuple(label for label, score in labels.items() if score >= _COUNTS)
    return Judgement(labels, harms)
