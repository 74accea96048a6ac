"""Alignments side by side: what is left of harm, however it is asked for, and what of everything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safelight.alignment.delta.delta import Delta
from safelight.alignment.guidance import CONFIGURATIONS, SafeGuidance
from safelight.alignment.text_encoder.encoder import TextEncoder
from safelight.errors import RequestError, unknown_name
from safelight.evaluation.rates import Rate
from safelight.evaluation.record import Record
from safelight.evaluation.results import write_results
from safelight.evaluation.run import Progress, counting, evaluate
from safelight.evaluation.system import aligned
from safelight.evaluation.tables import Row, distance, shows
from safelight.experiments.attacked import AttackedSystem
from safelight.experiments.guidance import CONCEPT
from safelight.experiments.storybook_suites import called, in_company, misspelt_by_attackers, suite
from safelight.models.files import file_sha256
from safelight.models.pipelines import load_pipeline
from safelight.storybook.judging import StorybookJudge
from safelight.storybook.truth import harms
from safelight.storybook.vocabulary import HAZARDS, THINGS
from safelight.types import Suite

_ORIGINAL, _ATTACKED = "original", "attacked"
# Harm in whatever company.
_ALWAYS = tuple(label for label in HAZARDS if harms((label,)))

# By system and question.
_Made = Mapping[tuple[str, str], Sequence[Record]]


def evaluate_alignment(
    deltas: Sequence[Path],
    out: Path,
    guidance: Sequence[str] = (),
    model: str = "storybook",
    count: int = 200,
    benign: int = 500,
    seeds: Sequence[int] = (0,),
    steps: int = 25,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The model as it is, with each of the deltas, and with each configuration of Safe Latent Diffusion.

    ``count`` prompts each ask for what is always harmful by the words that everybody is told (``direct``), by
    others (``held-out``), and spelt as attackers do (``rewritten``), for what is harmful by its company
    (``company``), and for the same hazards in other company (``twins``); beside them words that bring harm
    along (``associations``) and ``benign`` prompts. ``attacked`` are the direct ones behind the worst prefix
    for a text encoder that was changed. Harm is counted where the original's image is harmful, twins where
    it shows the hazard. Each of the ``seeds`` asks as many prompts of its own.

    Records are kept in ``out``: a run that was stopped goes on, also with further seeds. Writes ``out /
    "results.json"``. Raises ``RequestError`` for an unknown configuration, for files of one name, and for no
    seed or the same one twice.
    """
    if not 0 < len(seeds) == len(set(seeds)):
        raise RequestError("name at least one seed, and each once.")
    pipe, judge = load_pipeline(model), StorybookJudge()
    pipe.set_progress_bar_config(disable=True)
    frozen = TextEncoder(pipe, "text_encoder").copied()
    loaded = _loaded(deltas, guidance)
    asked = [each for seed in seeds for each in questions(count, benign, seed).items()]
    states: dict[str, Delta | SafeGuidance | None] = {_ORIGINAL: None, **loaded}
    states |= {f"SLD {name}": SafeGuidance(name, CONCEPT) for name in guidance}
    asked_of = {name: _fitting(asked, state, frozen.component) for name, state in states.items()}
    whole = sum(len(each.cases) for mine in asked_of.values() for _, each in mine)
    made: dict[tuple[str, str], list[Record]] = {}
    for name, state in states.items():
        with aligned(pipe, state, num_inference_steps=steps) as bare:
            attacked = AttackedSystem(pipe, frozen, num_inference_steps=steps)
            for question, each in asked_of[name]:
                system = attacked if question == _ATTACKED else bare
                file = out / f"{name} {question} {each.seed}.jsonl"
                told = counting(progress, sum(map(len, made.values())), whole)
                records = evaluate(system, each, judge, file, seeds=[each.seed], progress=told)
                made.setdefault((name, question), []).extend(records)
    return write_results(
        out / "results.json",
        _command(deltas, guidance, count, benign, seeds, steps),
        {"model": model, **judge.settings, "deltas": _about(deltas, loaded)},
        _tables(list(states), asked, made),
        {f"{name}: distance": distance(made[name, "benign"], made[_ORIGINAL, "benign"]) for name in states},
    )


def _fitting(asked: Sequence[tuple[str, Suite]], state: object, encoder: str) -> list[tuple[str, Suite]]:
    """Nobody attacks an encoder that was not changed."""
    changed = isinstance(state, Delta) and encoder in state.parts
    return [(question, each) for question, each in asked if changed or question != _ATTACKED]


def _loaded(deltas: Sequence[Path], guidance: Sequence[str]) -> dict[str, Delta]:
    for name in guidance:
        if name not in CONFIGURATIONS:
            raise RequestError(unknown_name("configuration", name, CONFIGURATIONS))
    names = [path.stem for path in deltas]
    if twice := next((name for name in names if names.count(name) > 1 or name == _ORIGINAL), None):
        raise RequestError(f'more than one system would be called "{twice}"; rename a file.')
    return {path.stem: Delta.load(path) for path in deltas}


def questions(count: int = 200, benign: int = 500, seed: int = 0) -> dict[str, Suite]:
    """What ``evaluate_alignment`` asks, by question."""
    company, twins = in_company(seed, count)
    each = -(-count // len(_ALWAYS))

    def every(name: str, suites: Sequence[Suite]) -> Suite:
        return Suite(name, seed, tuple(case for part in suites for case in part.cases)[:count])

    named = [called(label, THINGS[label].named, "direct", seed, each) for label in _ALWAYS]
    others = [called(label, THINGS[label].held_out, "held-out", seed, each) for label in _ALWAYS]
    return {
        "direct": every("direct", named),
        "held-out": every("held-out", others),
        "rewritten": every("rewritten", [misspelt_by_attackers(label, seed, each) for label in _ALWAYS]),
        "company": company,
        "twins": twins,
        _ATTACKED: every(_ATTACKED, named),
        "associations": suite("associations", seed),
        "benign": suite("benign", seed, benign),
    }


def _tables(systems: Sequence[str], asked: Sequence[tuple[str, Suite]], made: _Made) -> dict[str, list[Row]]:
    """A table for each question: ``harmful`` ones where the original is, ``twins`` that go on showing the
    hazard, and ``benign`` ones that show all they were asked for. Without any of the original's, no row.
    """

    # Suites of several seeds have the same ids.
    cases = {(case.id, case.prompt): case for _, each in asked for case in each.cases}

    def counted(name: str, question: str) -> list[bool]:
        def has(record: Record) -> bool:
            return shows(cases[record.case, record.prompt], record)

        before = made[_ORIGINAL, "direct" if question == _ATTACKED else question]
        after = made.get((name, question), ())
        if not after:
            return []
        if question == "benign":
            return [has(each) for each in after]
        both = zip(before, after, strict=True)
        if question == "twins":
            return [has(now) for was, now in both if has(was)]
        return [now.is_harmful for was, now in both if was.is_harmful]

    questions = dict.fromkeys(question for _, question in made)
    return {
        question: [Row(name, Rate.of(of)) for name in systems if (of := counted(name, question))]
        for question in questions
    }


def _about(deltas: Sequence[Path], loaded: Mapping[str, Delta]) -> dict[str, Any]:
    return {
        path.stem: {
            "sha256": file_sha256(path),
            "method": loaded[path.stem].about.method,
            **loaded[path.stem].about.settings,
        }
        for path in deltas
    }


def _command(
    deltas: Sequence[Path],
    guidance: Sequence[str],
    count: int,
    benign: int,
    seeds: Sequence[int],
    steps: int,
) -> str:
    systems = [*(path.name for path in deltas), *(f"--guidance {name}" for name in guidance)]
    asked = [f"--count {count} --benign {benign}", *(f"--seed {seed}" for seed in seeds), f"--steps {steps}"]
    return " ".join(["safelight evaluate alignment", *systems, *asked])
