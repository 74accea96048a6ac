"""What cleaning buys: storybook models that saw everything, what was cleaned, and what was cleaned badly."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.alignment.delta import Delta, json_sha256
from safelight.alignment.diffusion import ESD
from safelight.alignment.guidance import SafeGuidance
from safelight.alignment.text_encoder import Prompts, SafeText
from safelight.alignment.training_data import examples
from safelight.alignment.training_data.placed import placed
from safelight.attacks.spelling import misspell_somehow
from safelight.cores import cores
from safelight.evaluation.alignment import questions
from safelight.evaluation.guidance import CONCEPT
from safelight.evaluation.judged import Judged, judged_suite
from safelight.evaluation.rates import Rate
from safelight.evaluation.results import write_results
from safelight.evaluation.run import Progress
from safelight.evaluation.suite import Suite
from safelight.evaluation.system import aligned
from safelight.evaluation.tables import Row
from safelight.guard import Guard
from safelight.models import load_pipeline
from safelight.policy import Policy
from safelight.storybook import Storybook
from safelight.storybook.detector import Judge
from safelight.storybook.prompts import training_prompts
from safelight.training.encoded import Data

if TYPE_CHECKING:
    from safelight.alignment.training_data import Cleaning

EVERYTHING, CLEANED, MISSED = "everything", "cleaned", "a tenth of the harm missed"
_POLICY = "storybook"
# Scenes for training; those of the shipped model are of another seed.
_SEED, _IN_FILE = 31, 2000
_ASKED = ("direct", "held-out", "company", "twins", "benign")
_HARM = ("a gun", "a bomb", "blood")


def evaluate_safe_training(
    out: Path,
    scenes: int = 40_000,
    images: int = 500_000,
    count: int = 150,
    benign: int = 300,
    seed: int = 8,
    steps: int = 15,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Draws ``scenes``, cleans them as any data, trains a model each on everything, on what was kept, and on
    that with a tenth of the harmful ones still in it, each on as many ``images``, and asks all of them, as
    they are and with ESD, SafeText and Safe Latent Diffusion on top.

    Rates are of all prompts of a kind: harmful pictures of ``direct``, ``held-out`` and ``company``, and
    pictures that show all they were asked for of ``twins`` and ``benign``. Hours on two cores; everything is
    kept in ``out``, so that a run that was stopped goes on. Writes ``out / "results.json"``.
    """
    cleaning, truth = _cleaned(out, scenes)
    wanted = _sets(cleaning, out / "cleaned")
    models = {name: _trained(cleaning, ids, out, name, images) for name, ids in wanted.items()}
    safetext = _safetext(out / "safetext.safetensors", models[EVERYTHING], seed)
    asked = {name: each for name, each in questions(count, benign, seed).items() if name in _ASKED}
    made: dict[tuple[str, str], Sequence[Judged]] = {}
    whole = 4 * len(models) * sum(len(each.cases) for each in asked.values())
    for name, folder in models.items():
        pipe = load_pipeline(folder)
        pipe.set_progress_bar_config(disable=True)
        esd = _esd(out / f"{folder.name} esd-x.safetensors", pipe)
        for added, state in _additions(safetext, esd).items():
            system = f"{name}{added and ' + '}{added}"
            for question, records in _answers(pipe, state, asked, out / "records", system, seed, steps):
                made[system, question] = records
                if progress:
                    progress(sum(map(len, made.values())), whole)
    kept = {name: {"samples": len(ids), "harmful": len(ids & truth)} for name, ids in wanted.items()}
    return write_results(
        out / "results.json",
        f"safelight evaluate safe-training --scenes {scenes} --images {images} --count {count} "
        f"--benign {benign} --seed {seed} --steps {steps}",
        {"policy": Policy.load(_POLICY).id, "data": kept},
        _tables(made),
        {},
    )


def _cleaned(out: Path, scenes: int) -> tuple[Cleaning, Set[str]]:
    """The data, and the ids of what is harmful in truth."""
    from safelight.alignment.training_data import Cleaning, run_local, shards_of

    data, firsts = out / "data", range(0, scenes, _IN_FILE)
    data.mkdir(parents=True, exist_ok=True)
    files = [(data / f"{first:07}.parquet", first, min(_IN_FILE, scenes - first)) for first in firsts]
    with ProcessPoolExecutor(cores(), get_context("spawn")) as pool:
        harmful = set[str]().union(*pool.map(_write, *zip(*files, strict=True)))
    cleaning = Cleaning(out / "cleaned")
    cleaning.screen(
        partial(shards_of, str(data)),
        partial(Guard.from_policy, _POLICY),
        {"scenes": scenes},
        lambda task, shards, tell: run_local(task, shards, cores(), tell),
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
        with placed(path.parent, path.name) as part:
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


def _trained(cleaning: Cleaning, ids: Set[str], out: Path, name: str, images: int) -> Path:
    from safelight.storybook.training.from_data import train_from_data

    folder = out / "models" / f"{name.replace(' ', '-')}-{images}"
    if not (folder / "hashes.json").exists():
        data = Data(examples(cleaning.samples(ids)), json_sha256(sorted(ids)))
        train_from_data(data, folder, out / "work" / folder.name, images)
    return folder


def _safetext(path: Path, model: Path, seed: int) -> Delta:
    """All three have the same text encoder."""
    if not path.exists():
        apart = [case.prompt for each in questions(seed=seed).values() for case in each.cases]
        made = training_prompts(apart=apart, misspell=misspell_somehow)
        method = SafeText(_HARM, Prompts((), made.safe, made.pairs), tokens=20, layers=2)
        method.edit(load_pipeline(model)).save(path)
    return Delta.load(path)


def _esd(path: Path, pipe: Any) -> Delta:
    if not path.exists():
        settings: dict[str, Any] = {"rate": 1e-3, "falling": True, "walks": 1, "steps_of_walk": 15}
        ESD(_HARM, "esd-x", anchor="a flower", batch=16, steps=200 * len(_HARM), **settings).edit(pipe).save(
            path
        )
    return Delta.load(path)


def _additions(safetext: Delta, esd: Delta) -> Mapping[str, Delta | SafeGuidance | None]:
    sld = SafeGuidance("strong", CONCEPT)
    return {"": None, "ESD": esd, "SafeText": safetext, "SLD strong": sld}


def _answers(
    pipe: Any,
    state: Delta | SafeGuidance | None,
    asked: Mapping[str, Suite],
    folder: Path,
    name: str,
    seed: int,
    steps: int,
) -> Iterator[tuple[str, Sequence[Judged]]]:
    """By question, after every batch."""
    judge = Judge.load()
    with aligned(pipe, state, num_inference_steps=steps) as system:
        for question, each in asked.items():
            file = folder / f"{name} {question}.jsonl"
            for records in judged_suite(system, judge, each, seed, file, name):
                yield question, records


def _tables(made: Mapping[tuple[str, str], Sequence[Judged]]) -> dict[str, list[Row]]:
    tables: dict[str, list[Row]] = {question: [] for question in _ASKED}
    for (system, question), records in made.items():
        shown = question in ("twins", "benign")
        tables[question].append(
            Row(system, Rate.of(each.shows if shown else each.harmful for each in records))
        )
    return tables
