"""``safelight align``: concepts are taken out of a model."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safelight.cli import terminal
from safelight.cli.options import AsJson, Model, Seed, Steps
from safelight.cli.pipeline import open_pipeline
from safelight.errors import RequestError
from safelight.models import MODELS

if TYPE_CHECKING:
    from safelight.alignment.delta import Delta
    from safelight.alignment.diffusion import ESD
    from safelight.alignment.proof import Change, Shows
    from safelight.alignment.tuning import Curve, Measure

align = typer.Typer(
    name="align",
    help="Take concepts out of a model; what was changed is written as a small delta.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Concepts = Annotated[
    list[str],
    typer.Option("--concept", help="What to take out, and between commas other names for it; repeatable."),
]
Out = Annotated[Path, typer.Option(help="The delta, a .safetensors file; its card is written beside it.")]
Preserve = Annotated[
    list[str], typer.Option("--preserve", help="What must stay, and other names for it; repeatable.")
]
Selection = Annotated[
    str, typer.Option(help="What is trained: esd-x, esd-x-strict, esd-u, esd-self or esd-all.")
]
EraseFrom = Annotated[
    str, typer.Option(help="Take the concept out of this text alone.", show_default="itself")
]
Measured = Annotated[
    int, typer.Option(min=0, help="Look every so many steps what is left, and end where nothing changes.")
]
LoraRank = Annotated[
    int,
    typer.Option(min=0, help="Train a change of this rank; nothing is copied.", show_default="whole weights"),
]
Part = Annotated[
    float,
    typer.Option(help="Of each walk, from the noise on, where it is decided what a picture will show."),
]
Checkpointing = Annotated[
    bool, typer.Option("--checkpointing", help="Work out again, backwards, what else would be kept.")
]
Attributes = Annotated[
    list[str],
    typer.Option("--attribute", help="What its pictures may show, and with = its share; repeatable."),
]
Pictures = Annotated[int, typer.Option(min=1, help="Drawn of each concept before and after, as a proof.")]


@align.command()
def uce(
    concept: Concepts,
    out: Out,
    model: Model = "storybook",
    target: Annotated[str, typer.Option(help="What it is to mean.", show_default="nothing")] = "",
    preserve: Preserve = [],  # noqa: B006 - typer's way
    template: Annotated[
        list[str], typer.Option("--template", help="A text with {} for each name.", show_default="six")
    ] = [],  # noqa: B006
    tokens: Annotated[
        list[str], typer.Option("--tokens", help="Which are edited: last, words, end; repeatable.")
    ] = ["last"],  # noqa: B006
    erase_weight: Annotated[float, typer.Option(help="w_e of the paper.")] = 1.0,
    preserve_weight: Annotated[float, typer.Option(help="w_p of the paper.")] = 1.0,
    ridge: Annotated[float, typer.Option(help="λ of the paper: how little other texts may change.")] = 0.5,
    pictures: Pictures = 8,
    steps: Steps = 25,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Edit what a concept means in closed form (Unified Concept Editing), in seconds.

    \b
    Examples:
      safelight align uce --concept "gun, pistol" --target flower --preserve "dog, cat" --out gun.safetensors
      safelight align uce --model ./stable-diffusion --concept "Van Gogh" --out gogh.safetensors
    """
    from safelight.alignment.diffusion.uce import TEMPLATES, UCE

    method = UCE(
        concept,
        target,
        preserve,
        template or TEMPLATES,
        tokens,  # type: ignore[arg-type]  # checked there
        erase_weight,
        preserve_weight,
        ridge,
    )
    _check(out)
    pipe = open_pipeline(model)
    with terminal.busy("Solving"):
        delta = method.edit(pipe)
    _prove(pipe, model, delta, preserve, out, (pictures, steps, seed), as_json)


@align.command()
def debias(
    concept: Annotated[str, typer.Option(help="The word, and between commas other names for it.")],
    attribute: Attributes,
    out: Out,
    model: Model = "storybook",
    preserve: Preserve = [],  # noqa: B006 - typer's way
    rounds: Annotated[int, typer.Option(min=1, help="Edits that are tried, at most.")] = 10,
    pictures: Annotated[int, typer.Option(min=1, help="Looked at after each.")] = 64,
    tolerance: Annotated[float, typer.Option(help="How far off a share may be.")] = 0.05,
    steps: Steps = 15,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Even out what a word brings along by itself (Unified Concept Editing), in minutes.

    \b
    Example:
      safelight align debias --concept "a pet" --attribute dog=1 --attribute cat=1 --out pet.safetensors
    """
    from safelight.alignment.diffusion.debias import Debias

    method = Debias(
        concept,
        dict(map(_share, attribute)),
        preserve,
        rounds=rounds,
        pictures=pictures,
        tolerance=tolerance,
        steps=steps,
        seed=seed,
    )
    _check(out)
    _check_seen(model, "debias")
    pipe = open_pipeline(model)
    with terminal.progress("Evening out") as tell:
        delta, history = method.edit(pipe, _judge(), lambda done: tell(done, rounds))
    _prove(pipe, model, delta, preserve, out, (8, steps, seed), as_json)
    if not as_json:
        headings = ("attribute", "share before", *(f"after edit {i}" for i in range(1, len(history))))
        rows = [(name, *(f"{100 * each[name]:.0f} %" for each in history)) for name in history[0]]
        terminal.print_table(headings, rows)


@align.command()
def esd(
    concept: Concepts,
    out: Out,
    model: Model = "storybook",
    selection: Selection = "esd-x",
    eta: Annotated[float, typer.Option(help="η of the paper: how far away; below 0 towards it.")] = 1.0,
    anchor: Annotated[str, typer.Option(help="What to go to instead.", show_default="no text")] = "",
    erase_from: EraseFrom = "",
    preserve: Preserve = [],  # noqa: B006 - typer's way
    preserve_weight: Annotated[float, typer.Option(min=0, help="How much what must stay counts.")] = 1.0,
    iterations: Annotated[int, typer.Option(min=1, help="Steps of the training.")] = 200,
    batch: Annotated[int, typer.Option(min=1, help="Points in a batch.")] = 8,
    accumulate: Annotated[int, typer.Option(min=1, help="Batches in a step.")] = 1,
    rate: Annotated[float, typer.Option(help="Of learning; small models take 1e-3.")] = 1e-4,
    sampling: Annotated[str, typer.Option(help="Who draws up to each point: frozen or edited.")] = "frozen",
    walks: Annotated[int, typer.Option(min=1, help="Generations of each name; each step is a point.")] = 4,
    jitter: Annotated[bool, typer.Option("--jitter", help="Timesteps between those of a walk.")] = False,
    part: Part = 1.0,
    refresh: Annotated[int, typer.Option(min=1, help="Steps between walks of the edited network.")] = 50,
    measure: Measured = 0,
    lora_rank: LoraRank = 0,
    checkpointing: Checkpointing = False,
    checkpoint: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 50,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the same command stopped.")] = False,
    pictures: Pictures = 8,
    steps: Steps = 25,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Train a model to draw away from a concept (Erasing Concepts from Diffusion Models).

    \b
    Examples:
      safelight align esd --concept "gun, a gun, pistol" --rate 1e-3 --out gun.safetensors
      safelight align esd --model ./stable-diffusion --concept nudity --selection esd-u --out n.safetensors
    """
    from safelight.alignment.diffusion.esd import ESD

    aim: dict[str, Any] = {"eta": eta, "anchor": anchor, "erase_from": erase_from}
    keep: dict[str, Any] = {"preserve": preserve, "preserve_weight": preserve_weight}
    pace: dict[str, Any] = {"steps": iterations, "batch": batch, "rate": rate, "accumulate": accumulate}
    walk: dict[str, Any] = {"sampling": sampling, "walks": walks, "jitter": jitter, "part": part}
    memory: dict[str, Any] = {"lora_rank": lora_rank, "checkpointing": checkpointing}
    often: dict[str, Any] = {"refresh": refresh, "checkpoint_every": checkpoint, "measured_every": measure}
    method = ESD(concept, selection, **aim, **keep, **pace, **walk, **memory, **often, seed=seed)
    _check(out)
    _train(method, model, out, resume, (pictures, steps, seed), as_json)


def _train(
    method: ESD, model: str, out: Path, resume: bool, drawing: tuple[int, int, int], as_json: bool
) -> None:
    work = out.with_suffix(".tuning")
    if work.exists() and not resume:
        raise RequestError(f"{work} has the checkpoint of a training; give --resume, or remove it.")
    if method.measured_every:
        _check_seen(model, "--measure")
    pipe = open_pipeline(model)
    with terminal.progress("Training") as tell:
        left = _what_is_left(pipe, method.concepts) if method.measured_every else None
        delta, curve = method.tune(pipe, work, left, lambda step, _: tell(step, method.steps))
    _prove(pipe, model, delta, method.preserve, out, drawing, as_json)
    _draw_curve(curve, out)
    shutil.rmtree(work, ignore_errors=True)  # one that ended early has none


def _what_is_left(pipe: Any, concepts: Sequence[str]) -> Measure:
    """The share of eight pictures of every concept that show it."""
    from safelight.alignment.proof import draw

    shows = _judge()

    def measure(_: int) -> float:
        seen = [each for concept in concepts for each in shows(concept, draw(pipe, concept, 8, 15, 0)) or ()]
        return sum(seen) / len(seen) if seen else 1.0

    return measure


def _draw_curve(curve: Curve, out: Path) -> None:
    """The loss, as numbers and as a picture, beside the delta."""
    from safelight.training.curves import draw_curves
    from safelight.training.progress import Curve as Points

    kept, numbers = Points(every=max(1, len(curve.loss) // 100)), out.with_suffix(".curve.json")
    for step, loss in enumerate(curve.loss):
        kept.add(step, loss)
    kept.save(numbers)
    draw_curves([numbers], out.with_suffix(".curve.png"))


def _share(said: str) -> tuple[str, float]:
    """``dog`` or ``dog=0.5``."""
    name, _, share = said.partition("=")
    try:
        return name.strip(), float(share or 1)
    except ValueError:
        raise RequestError(f'"{share}" is no share of "{name}"; give a number.') from None


def _check_seen(model: str, what: str) -> None:
    if model not in MODELS:
        raise RequestError(f"nobody can say what this model draws, so {what} is for packaged models only.")


def _check(out: Path) -> None:
    if out.suffix != ".safetensors":
        raise RequestError(f"{out} is to be a delta; give it a name that ends with .safetensors.")


def _prove(
    pipe: Any,
    model: str,
    delta: Delta,
    preserve: Sequence[str],
    out: Path,
    drawing: tuple[int, int, int],
    as_json: bool,
) -> None:
    """Draws what proves the edit, writes the delta and its card, and says so; nothing if it is no edit."""
    from dataclasses import replace

    from safelight.alignment.card import write_card
    from safelight.alignment.proof import prove

    packaged = model in MODELS
    with terminal.busy("Drawing before and after"):
        proof, drawn = prove(pipe, delta, preserve, *drawing, _judge() if packaged else None)
    about = replace(delta.about, base=model if packaged else delta.about.base, proof=asdict(proof))
    replace(delta, about=about).save(out)
    # Of other models' pictures before an edit nobody knows what they show.
    shown = drawn if packaged else {concept: pair for concept, pair in drawn.items() if concept in preserve}
    card = write_card(out, about, proof, shlex.join(["safelight", *sys.argv[1:]]), shown)
    if as_json:
        terminal.print_json({"delta": str(out), "card": str(card), **asdict(proof)})
        return
    changes = {**proof.concepts, **proof.preserved}
    headings = ("concept", "largest change", "mean", "shown before", "after")
    terminal.print_table(headings, [_row(name, change) for name, change in changes.items()])
    terminal.print_line(f"{proof.values:,} values in {proof.tensors} tensors are in {out}")


def _row(concept: str, change: Change) -> tuple[str, ...]:
    shares = ("" if share is None else f"{100 * share:.0f} %" for share in (change.before, change.after))
    return (concept, f"{change.largest:.3f}", f"{change.mean:.3f}", *shares)


def _judge() -> Shows:
    """Whether the storybook's judge sees what goes by one of a concept's names."""
    from safelight.alignment.names import names_of
    from safelight.evaluation import judging
    from safelight.storybook.detector import Judge
    from safelight.storybook.vocabulary import entry_of

    judge = Judge.load()

    def shows(concept: str, images: Sequence[Any]) -> list[bool] | None:
        entry = next(filter(None, map(entry_of, names_of(concept))), None)
        return [judging.shows(each, entry.label) for each in judge.detect(images)] if entry else None

    return shows
