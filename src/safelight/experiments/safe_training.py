"""What cleaning buys: storybook models that saw everything, what was cleaned, and what was cleaned badly."""

from __future__ import annotations

import io
import random
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from safelight.alignment.delta.delta import Delta, json_sha256
from safelight.alignment.diffusion import ESD
from safelight.alignment.guidance import SafeGuidance
from safelight.alignment.text_encoder import Prompts, SafeText
from safelight.alignment.training_data import examples
from safelight.attacks.spelling import misspell_somehow
from safelight.concurrency.thread_count import thread_count
from safelight.concurrency.workers import begin_worker
from safelight.evaluation.rates import Rate
from safelight.evaluation.record import Record
from safelight.evaluation.results import write_results
from safelight.evaluation.run import Progress, by_case, evaluate
from safelight.evaluation.system import aligned
from safelight.evaluation.tables import Row, shows
from safelight.experiments.alignment import questions
from safelight.experiments.guidance import CONCEPT
from safelight.guard.guard import Guard
from safelight.models.pipelines import load_pipeline
from safelight.policy import Policy
from safelight.storage.atomic_write import atomic_write
from safelight.storybook import Storybook
from safelight.storybook.judging import StorybookJudge
from safelight.storybook.prompts import training_prompts
from safelight.training.encoded import Data
from safelight.types import Suite

if TYPE_CHECKING:
    from safelight.alignment.training_data import Cleaning

EVERYTHING, CLEANED, MISSED = "everything", "cleaned", "a tenth of the harm missed"
_POLICY = "storybook"
# Scenes for training; those of the shipped model are of another seed.
_SEED, _IN_FILE = 31, 2000
_ASKED = ("direct", "held-out", "company", "twins", "benign")
_HARM = ("a gun", "a bomb", "blood")
_SAFETEXT, _RECORDS = "safetext.safetensors", "records"
# A model as it is, and with one of three defences on top.
_ADDED = ("", "ESD", "SafeText", "SLD strong")
_EVERY_S = 2.0

# By system and question.
Answers = Mapping[tuple[str, str], Sequence[Record]]


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
    """Draws ``scenes``, cleans them as any data, trains a model each on everything, on what was kept, and on
    that with a tenth of the harmful ones still in it, each on as many ``num_images``, and asks all of them,
    as they are and with ESD, SafeText and Safe Latent Diffusion on top.

    Rates are of all prompts of a kind: harmful images of ``direct``, ``held-out`` and ``company``, and
    images that show all they were asked for of ``twins`` and ``benign``. Hours on two cores; everything is
    kept in ``out``, so that a run that was stopped goes on. Writes ``out / "results.json"``.
    """
    cleaning, truth = _cleaned(out, scenes)
    wanted = _sets(cleaning, out / "cleaned")
    _safetext(out / _SAFETEXT, seed)
    asked = {name: each for name, each in questions(count, benign, seed).items() if name in _ASKED}
    made = _side_by_side(_Trial(cleaning, out, num_images, esd_steps, asked, seed, steps), wanted, progress)
    kept = {name: {"samples": len(ids), "harmful": len(ids & truth)} for name, ids in wanted.items()}
    return write_results(
        out / "results.json",
        f"safelight evaluate safe-training --scenes {scenes} --num-images {num_images} --count {count} "
        f"--benign {benign} --seed {seed} --steps {steps} --esd-steps {esd_steps}",
        {"policy": Policy.load(_POLICY).id, "data": kept},
        _tables(asked, made),
        {},
    )


@dataclass(frozen=True)
class _Trial:
    """What all models have in common: what they are trained by, and what they are asked."""

    cleaning: Cleaning
    out: Path
    num_images: int
    esd_steps: int
    asked: Mapping[str, Suite]
    seed: int
    steps: int

    def run(self, name: str, ids: Set[str]) -> Answers:
        """Trains the model of this name on the samples with these ``ids``, and asks it."""
        folder = self._trained(name, ids)
        pipe, judge = load_pipeline(folder), StorybookJudge()
        pipe.set_progress_bar_config(disable=True)
        esd = _esd(self.out / f"{folder.name} esd-x-{self.esd_steps}.safetensors", pipe, self.esd_steps)
        answers = {}
        for added, state in _additions(Delta.load(self.out / _SAFETEXT), esd).items():
            system = f"{name}{added and ' + '}{added}"
            with aligned(pipe, state, num_inference_steps=self.steps) as drawing:
                for question, each in self.asked.items():
                    file = self.out / _RECORDS / f"{system} {question}.jsonl"
                    records = evaluate(drawing, each, judge, file, seeds=[self.seed])
                    answers[system, question] = records
        return answers

    def _trained(self, name: str, ids: Set[str]) -> Path:
        from safelight.storybook.training.from_data import train_from_data

        folder = self.out / "models" / f"{name.replace(' ', '-')}-{self.num_images}"
        if not (folder / "hashes.json").exists():
            data = Data(examples(self.cleaning.samples(ids)), json_sha256(sorted(ids)))
            train_from_data(data, folder, self.out / "work" / folder.name, self.num_images, called=name)
        return folder


def _side_by_side(trial: _Trial, wanted: Mapping[str, Set[str]], progress: Progress | None) -> Answers:
    """A process for each model, since cores do more when each has a training of its own than when they share
    one. If one fails, none goes on."""
    whole = len(wanted) * len(_ADDED) * sum(len(each.cases) for each in trial.asked.values())
    others = active_children()
    with ProcessPoolExecutor(len(wanted), get_context("spawn"), _begin) as pool:
        runs = [pool.submit(trial.run, name, ids) for name, ids in wanted.items()]
        team = [child for child in active_children() if child not in others]
        try:
            while wait(runs, _EVERY_S, FIRST_EXCEPTION).not_done:
                for run in runs:
                    if run.done():
                        run.result()
                if progress and (drawn := _drawn(trial.out / _RECORDS)):
                    progress(drawn, whole)
            return {key: records for run in runs for key, records in run.result().items()}
        except BaseException:
            for process in team:
                process.terminate()
            raise


def _begin() -> None:
    begin_worker()
    torch.set_num_threads(thread_count())


def _drawn(records: Path) -> int:
    """The first line of a file says whose records they are."""
    return sum(max(0, path.read_bytes().count(b"\n") - 1) for path in records.glob("*.jsonl"))


def _cleaned(out: Path, scenes: int) -> tuple[Cleaning, Set[str]]:
    """The data, and the ids of what is harmful in truth."""
    from safelight.alignment.training_data import Cleaning, run_local, shards_of

    data, firsts = out / "data", range(0, scenes, _IN_FILE)
    data.mkdir(parents=True, exist_ok=True)
    files = [(data / f"{first:07}.parquet", first, min(_IN_FILE, scenes - first)) for first in firsts]
    with ProcessPoolExecutor(thread_count(), get_context("spawn")) as pool:
        harmful = set[str]().union(*pool.map(_write, *zip(*files, strict=True)))
    cleaning = Cleaning(out / "cleaned")
    cleaning.screen(
        partial(shards_of, str(data)),
        partial(Guard.from_policy, _POLICY),
        {"scenes": scenes},
        lambda task, shards, tell: run_local(task, shards, thread_count(), tell),
    )
    cleaning.sort(Policy.load(_POLICY), out / "cleaned")
    return cleaning, harmful


def _write(path: Path, first: int, count: int) -> set[str]:
    """Scenes with a caption each, as Parquet, if they are not there yet; gives the ids of harmful ones."""
    from pyarrow import parquet, table

    if not path.exists():
        columns: dict[str, list[Any]] = {"image": [], "text": [], "harmful": []}
        for number, scene in enumerate(Storybook(_SEED).scenes(count, start=first), first):
            buffer = io.BytesIO()
            scene.image.save(buffer, "PNG")
            columns["image"].append({"bytes": buffer.getvalue(), "path": None})
            columns["text"].append(random.Random(number).choice(scene.captions))
            columns["harmful"].append(bool(scene.harms))
        with atomic_write(path) as part:
            parquet.write_table(table(columns), part, row_group_size=1000)
    harmful = parquet.read_table(path, columns=["harmful"])["harmful"].to_pylist()
    return {f"{path.name}#{row}" for row, each in enumerate(harmful) if each}


def _sets(cleaning: Cleaning, out: Path) -> Mapping[str, Set[str]]:
    """The ids that each model is trained on."""
    from safelight.alignment.training_data.manifest import KEPT, REJECTED
    from safelight.alignment.training_data.row_file import rows_in

    kept, rejected = ([str(row["id"]) for row in rows_in(out / name, ["id"])] for name in (KEPT, REJECTED))
    missed = random.Random(_SEED).sample(rejected, len(rejected) // 10)
    return {EVERYTHING: {*kept, *rejected}, CLEANED: {*kept}, MISSED: {*kept, *missed}}


def _safetext(path: Path, seed: int) -> None:
    """All models have the storybook's text encoder."""
    if not path.exists():
        apart = [case.prompt for each in questions(seed=seed).values() for case in each.cases]
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


def _additions(safetext: Delta, esd: Delta) -> Mapping[str, Delta | SafeGuidance | None]:
    return dict(zip(_ADDED, (None, esd, safetext, SafeGuidance("strong", CONCEPT)), strict=True))


def _tables(asked: Mapping[str, Suite], made: Answers) -> dict[str, list[Row]]:
    tables: dict[str, list[Row]] = {question: [] for question in _ASKED}
    for (system, question), records in made.items():
        judged = by_case(asked[question], records)
        shown = question in ("twins", "benign")
        tables[question].append(
            Row(system, Rate.of(shows(case, each) if shown else each.is_harmful for case, each in judged))
        )
    return tables
