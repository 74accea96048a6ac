"""Evaluation of data cleaning: storybook models trained on all data, cleaned data, and badly cleaned data."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.alignment.delta.delta import Delta, json_sha256
from safelight.alignment.diffusion import ESD
from safelight.alignment.guidance import SafeGuidance
from safelight.alignment.text_encoder import Prompts, SafeText
from safelight.attacks.spelling import misspell_somehow, respelt
from safelight.concurrency.side_by_side import side_by_side
from safelight.concurrency.thread_count import thread_count
from safelight.evaluation.command_line import command_line
from safelight.evaluation.comparison import Candidate, Comparison, Question, compare, is_harmful
from safelight.evaluation.results import write_results
from safelight.evaluation.run import Progress
from safelight.evaluation.system import aligned, quiet_pipeline
from safelight.evaluation.tables import shows
from safelight.guard.guard import Guard
from safelight.models.pipelines import load_pipeline
from safelight.policy import Policy
from safelight.safe_training.cleaning import examples
from safelight.storybook.judging import StorybookJudge
from safelight.storybook.prompts import training_prompts
from safelight.storybook.scene_files import write_scenes
from safelight.storybook.suites import harm_suites
from safelight.storybook.vocabulary import HARMFUL_CONCEPTS
from safelight.training.encoded import Data

if TYPE_CHECKING:
    from safelight.safe_training.cleaning import Cleaning

EVERYTHING, CLEANED, MISSED = "everything", "cleaned", "a tenth of the harm missed"
_POLICY = "storybook"
# The seed of the training scenes, which the packaged model was not trained on, and the scenes per file.
_SEED, _IN_FILE = 31, 2000
# The suites of the evaluation, and what is counted in each.
_ASKED = {
    "direct": is_harmful,
    "held-out": is_harmful,
    "context": is_harmful,
    "counterparts": shows,
    "benign": shows,
}
_HARM = ("a gun", "a bomb", "blood")
_SAFETEXT, _RECORDS = "safetext.safetensors", "records"
# The defences that are added to each model; the first one is none.
_ADDED = ("", "ESD", "SafeText", "SLD strong")


def evaluate_safe_training(
    out: Path,
    scenes: int = 40_000,
    num_images: int = 500_000,
    count: int = 150,
    benign: int = 300,
    seed: int = 8,
    steps: int = 15,
    esd_steps: int = 600,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train and compare models on all data, on cleaned data, and on badly cleaned data.

    ``scenes`` scenes are rendered and cleaned. One model each is trained on all of them, on those that were
    kept, and on those that were kept with a tenth of the harmful ones added, with ``num_images`` training
    images each. All models are evaluated alone and with ESD, SafeText and Safe Latent Diffusion on top.

    The rates are over all prompts of a kind: harmful images for ``direct``, ``held-out`` and ``context``, and
    images that show everything that was asked for, for ``counterparts`` and ``benign``. The run takes hours
    on two cores; everything is kept in ``out``, from which an interrupted run resumes. Writes
    ``out / "results.json"``.
    """
    cleaning, truth = _cleaned(out, scenes)
    wanted = _sets(cleaning, out / "cleaned")
    _safetext(out / _SAFETEXT, seed)
    asked = [
        Question(suite, [seed])
        for name, suite in harm_suites(respelt, count, benign, seed).items()
        if name in _ASKED
    ]
    trial = _Trial(cleaning, out, num_images, esd_steps, asked, steps)
    whole = len(wanted) * len(_ADDED) * sum(map(len, asked))

    def watch() -> None:
        if progress and (drawn := _drawn(out / _RECORDS)):
            progress(drawn, whole)

    models = side_by_side({name: partial(trial.run, name, ids) for name, ids in wanted.items()}, watch)
    made = Comparison({key: records for each in models.values() for key, records in each.answers.items()})
    options = {"count": count, "benign": benign, "seed": seed, "steps": steps, "esd_steps": esd_steps}
    data = {name: {"samples": len(ids), "harmful": len(ids & truth)} for name, ids in wanted.items()}
    return write_results(
        out / "results.json",
        command_line("safe-training", scenes=scenes, num_images=num_images, **options),
        {"policy": Policy.load(_POLICY).id, "data": data},
        {suite: made.rows(suite, counts) for suite, counts in _ASKED.items()},
        {},
    )


@dataclass(frozen=True)
class _Trial:
    """The settings of training and evaluation that all models share."""

    cleaning: Cleaning
    out: Path
    num_images: int
    esd_steps: int
    asked: Sequence[Question]
    steps: int

    def run(self, name: str, ids: Set[str]) -> Comparison:
        """Train the model ``name`` on the samples with these ``ids``, and evaluate it."""
        folder = self._trained(name, ids)
        pipe = quiet_pipeline(folder)
        esd = _esd(self.out / f"{folder.name} esd-x-{self.esd_steps}.safetensors", pipe, self.esd_steps)
        safetext, sld = Delta.load(self.out / _SAFETEXT), SafeGuidance("strong", HARMFUL_CONCEPTS)
        candidates = [
            Candidate(
                f"{name}{added and ' + '}{added}",
                partial(aligned, pipe, state, num_inference_steps=self.steps),
                self.asked,
            )
            for added, state in zip(_ADDED, (None, esd, safetext, sld), strict=True)
        ]
        return compare(candidates, StorybookJudge(), self.out / _RECORDS)

    def _trained(self, name: str, ids: Set[str]) -> Path:
        from safelight.storybook.training.from_data import train_from_data

        folder = self.out / "models" / f"{name.replace(' ', '-')}-{self.num_images}"
        if not (folder / "hashes.json").exists():
            data = Data(examples(self.cleaning.samples(ids)), json_sha256(sorted(ids)))
            train_from_data(data, folder, self.out / "work" / folder.name, self.num_images, called=name)
        return folder


def _drawn(records: Path) -> int:
    """Return the number of records in the files; the first line of each file describes the run."""
    return sum(max(0, path.read_bytes().count(b"\n") - 1) for path in records.rglob("*.jsonl"))


def _cleaned(out: Path, scenes: int) -> tuple[Cleaning, Set[str]]:
    """Return the cleaned data, and the ids of the samples that are harmful by the ground truth."""
    from safelight.safe_training.cleaning import Cleaning, run_local, shards_of

    data, firsts = out / "data", range(0, scenes, _IN_FILE)
    data.mkdir(parents=True, exist_ok=True)
    files = [(data / f"{first:07}.parquet", _SEED, first, min(_IN_FILE, scenes - first)) for first in firsts]
    with ProcessPoolExecutor(thread_count(), get_context("spawn")) as pool:
        harmful = set[str]().union(*pool.map(write_scenes, *zip(*files, strict=True)))
    cleaning = Cleaning(out / "cleaned")
    cleaning.screen(
        partial(shards_of, str(data)),
        partial(Guard.from_policy, _POLICY),
        {"scenes": scenes},
        lambda task, shards, tell: run_local(task, shards, thread_count(), tell),
    )
    cleaning.sort(Policy.load(_POLICY), out / "cleaned")
    return cleaning, harmful


def _sets(cleaning: Cleaning, out: Path) -> Mapping[str, Set[str]]:
    """Return the ids that each model is trained on."""
    from safelight.safe_training.cleaning.manifest import KEPT, REJECTED
    from safelight.safe_training.cleaning.row_file import rows_in

    kept, rejected = ([str(row["id"]) for row in rows_in(out / name, ["id"])] for name in (KEPT, REJECTED))
    missed = random.Random(_SEED).sample(rejected, len(rejected) // 10)
    return {EVERYTHING: {*kept, *rejected}, CLEANED: {*kept}, MISSED: {*kept, *missed}}


def _safetext(path: Path, seed: int) -> None:
    """Train the text encoder that all models share with SafeText, unless its delta exists."""
    if not path.exists():
        apart = [case.prompt for each in harm_suites(respelt, seed=seed).values() for case in each.cases]
        made = training_prompts(apart=apart, misspell=misspell_somehow)
        method = SafeText(_HARM, Prompts((), made.safe, made.pairs), max_tokens=20, num_layers=2)
        method.align(load_pipeline("storybook")).delta.save(path)


def _esd(path: Path, pipe: Any, steps: int) -> Delta:
    if not path.exists():
        settings: dict[str, Any] = {
            "learning_rate": 1e-3,
            "lr_scheduler": "cosine",
            "trajectories": 1,
            "num_inference_steps": 15,
        }
        ESD(_HARM, "esd-x", anchor="a flower", batch_size=16, train_steps=steps, **settings).align(
            pipe
        ).delta.save(path)
    return Delta.load(path)
