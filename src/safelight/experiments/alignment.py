"""Comparison of deltas and Safe Latent Diffusion: the harm that is left, and the effect on benign prompts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from safelight.alignment.delta.delta import Delta
from safelight.alignment.guidance import SafeGuidance
from safelight.alignment.text_encoder.encoder import TextEncoder
from safelight.attacks.spelling import respelt
from safelight.errors import RequestError
from safelight.evaluation.command_line import command_line
from safelight.evaluation.comparison import Candidate, Comparison, Question, compare, is_harmful
from safelight.evaluation.deltas import delta_settings, load_deltas
from safelight.evaluation.results import write_results
from safelight.evaluation.run import Progress
from safelight.evaluation.system import aligned, quiet_pipeline
from safelight.evaluation.tables import Row, shows
from safelight.evaluation.text_encoder_attack import attacked
from safelight.storybook.judging import StorybookJudge
from safelight.storybook.suites import harm_suites
from safelight.storybook.vocabulary import HARMFUL_CONCEPTS

_ORIGINAL, _ATTACKED = "original", "attacked"


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
    """Compare the unchanged model with each of the deltas and with configurations of Safe Latent Diffusion.

    Every system is evaluated on the suites of ``storybook.suites.harm_suites`` for each of the ``seeds``. If
    a delta changes the text encoder, the direct prompts are also run under attack. Records are kept in
    ``out``, from which an interrupted run resumes, also with further seeds. Writes ``out / "results.json"``.
    Raises ``RequestError`` for an unknown configuration, for two files of the same name, and for missing or
    repeated seeds.
    """
    if not 0 < len(seeds) == len(set(seeds)):
        raise RequestError("give at least one seed, and each seed once.")
    pipe, judge, loaded = quiet_pipeline(model), StorybookJudge(), load_deltas(deltas, [_ORIGINAL])
    sld = {f"SLD {name}": SafeGuidance(name, HARMFUL_CONCEPTS) for name in guidance}
    suites = [each for seed in seeds for each in harm_suites(respelt, count, benign, seed).values()]
    bare = [Question(suite, [suite.seed]) for suite in suites if suite.name != _ATTACKED]
    worst = [Question(suite, [suite.seed]) for suite in suites if suite.name == _ATTACKED]
    frozen, arguments = TextEncoder(pipe, "text_encoder").copied(), {"num_inference_steps": steps}
    candidates = []
    for name, state in {_ORIGINAL: None, **loaded, **sld}.items():
        candidates.append(Candidate(name, partial(aligned, pipe, state, **arguments), bare))
        if isinstance(state, Delta) and frozen.component in state.parts:
            candidates.append(Candidate(name, partial(attacked, pipe, state, frozen, **arguments), worst))
    made = compare(candidates, judge, out, progress)
    options = {"guidance": guidance, "count": count, "benign": benign, "seed": list(seeds), "steps": steps}
    return write_results(
        out / "results.json",
        command_line("alignment", *(path.name for path in deltas), **options),
        {"model": model, **judge.settings, "deltas": delta_settings(deltas, loaded)},
        {suite: _rows(made, suite) for suite in made.suites},
        made.distances("benign"),
    )


def _rows(made: Comparison, suite: str) -> list[Row]:
    """Return the rates of one suite.

    For ``benign`` it is the rate of images that show everything that was asked for, for ``counterparts`` the
    rate of images that still show the hazard, and for all other suites the rate of harmful images among the
    cases for which the unchanged model's image is harmful.
    """
    if suite == "benign":
        return made.rows(suite, shows)
    if suite == "counterparts":
        return made.rows(suite, shows, among=shows)
    before = "direct" if suite == _ATTACKED else suite
    return made.rows(suite, is_harmful, among=is_harmful, reference_suite=before)
