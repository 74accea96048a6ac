"""``safelight clean``: unsafe samples out of training data."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from safelight.cli import terminal
from safelight.cli.options import AsJson
from safelight.cli.renamed_options import Commands
from safelight.concurrency.thread_count import thread_count
from safelight.errors import RequestError, unknown_name
from safelight.types import Action

if TYPE_CHECKING:
    from safelight.alignment.training_data.cleaning import Cleaning, Engine
    from safelight.alignment.training_data.tally import Tally
    from safelight.policy import Policy


_WRONG = 2
# What is given without a command. No folder is likely to be called so.
_SOURCE = "SOURCE"


class _Cleaning(TyperGroup):
    """What is no command of its own is data to clean, even a folder called as the command for it."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and (args[0] == _SOURCE or args[0] not in self.commands):
            args = [_SOURCE, *args]
        return super().resolve_command(ctx, args)


clean = Commands(
    cls=_Cleaning,
    name="clean",
    help="Take unsafe samples out of training data: safelight clean SOURCE --out DIR.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class EngineName(StrEnum):
    """What hands the work out."""

    LOCAL = "local"
    RAY = "ray"


class DuplicatesName(StrEnum):
    """Images that are there already."""

    KEEP = "keep"
    EXACT = "exact"
    NEAR = "near"


DuplicatesOption = Annotated[
    DuplicatesName,
    typer.Option(
        "--duplicates", help="What goes as well: the same file again, or what looks the same (PDQ)."
    ),
]
PolicyName = Annotated[str, typer.Option(help="A packaged policy or a TOML file.")]
Out = Annotated[Path, typer.Option(help="Folder for what is found and decided.", show_default=False)]
RejectFrom = Annotated[Action, typer.Option(help="The mildest action of the policy that rejects a sample.")]
FormName = Annotated[
    str | None, typer.Option(help="folder, webdataset, parquet or arrow.", show_default="by the files' names")
]
Image = Annotated[
    str | None, typer.Option(help="The column of images or their paths.", show_default="the likeliest")
]
Caption = Annotated[str | None, typer.Option(help="The column of captions.", show_default="the likeliest")]
Workers = Annotated[
    int, typer.Option(help="Processes; 0 for one a core, or as many as OMP_NUM_THREADS says.", min=0)
]
EngineOption = Annotated[EngineName, typer.Option("--engine", help="local: this machine; ray: a cluster.")]
Address = Annotated[
    str | None, typer.Option(help="Of the Ray cluster.", show_default="RAY_ADDRESS, else one is started here")
]
Groups = Annotated[
    Path | None,
    typer.Option(help="Groups of captions for the report, by their words (TOML).", show_default="packaged"),
]
WriteClean = Annotated[
    bool, typer.Option("--write-clean", help="Copy what stays into DIR/clean, in shards as they come.")
]
WriteQuarantine = Annotated[
    bool, typer.Option("--write-quarantine", help="Copy what goes into DIR/quarantine.")
]
IncludeCaptions = Annotated[
    bool,
    typer.Option(
        "--include-captions",
        help="Show captions on the page, which only you may read then; by default no caption is written.",
    ),
]


@clean.command(_SOURCE)
def clean_data(
    source: Annotated[str, typer.Argument(help="A folder, a file, or a URL that fsspec knows.")],
    out: Out,
    policy: PolicyName = "general",
    form: FormName = None,
    image: Image = None,
    caption: Caption = None,
    reject_from: RejectFrom = Action.REVIEW,
    duplicates: DuplicatesOption = DuplicatesName.KEEP,
    write_clean: WriteClean = False,
    write_quarantine: WriteQuarantine = False,
    workers: Workers = 0,
    engine: EngineOption = EngineName.LOCAL,
    address: Address = None,
    groups: Groups = None,
    include_captions: IncludeCaptions = False,
    as_json: AsJson = False,
) -> None:
    """Look at every sample with the filters of a policy, and list which stay and which go.

    SOURCE is a folder of images, with captions in .txt or .json files beside them, in metadata.jsonl or
    captions.csv; WebDataset tar files; Parquet with images or their paths; or a data set that the datasets
    library saved. Nothing in it is changed. DIR gets kept.parquet, rejected.parquet with the category, score,
    filter and reason of each, summary.json, and what was found in every sample, so that `safelight clean
    sort` can apply another policy without another look.

    A run that was stopped goes on when the same command is given again. What crashes a decoder is rejected as
    unreadable; where reading itself goes on crashing the rest of the shard is given up, and the command exits
    with 2. The machines of a Ray cluster must all see SOURCE and DIR.

    \b
    Examples:
      safelight clean images/ --out cleaned
      safelight clean s3://bucket/shards/ --policy policy.toml --out cleaned --workers 16
      safelight clean /mnt/images --engine ray --address head:6379 --workers 64 --out /mnt/cleaned
      safelight clean sort cleaned --policy stricter.toml --out stricter
    """
    from safelight.alignment.training_data import CaptionGroups, Cleaning, Form, shards_of
    from safelight.guard.guard import Guard
    from safelight.policy import Policy

    if form and form not in list(Form):
        raise RequestError(unknown_name("form", form, list(Form)))
    if address and engine is not EngineName.RAY:
        raise RequestError("--address is for --engine ray; add that or leave it out.")
    chosen, loaded, cleaning = Form(form) if form else None, Policy.load(policy), Cleaning(out)
    settings = {"source": source, "form": chosen, "image": image, "caption": caption}
    with terminal.counting("Screening", None, as_json) as tell:
        cleaning.screen(
            partial(shards_of, source, chosen, image, caption),
            partial(Guard.from_policy, _anywhere(policy)),
            settings,
            _engine(engine, workers or thread_count(), address),
            tell,
            CaptionGroups.load(groups),
            duplicates is DuplicatesName.NEAR,
        )
    copies = (write_clean, write_quarantine)
    _sort(cleaning, loaded, out, reject_from, duplicates, copies, include_captions, as_json)


@clean.command("sort")
def sort(
    folder: Annotated[Path, typer.Argument(help="What an earlier `safelight clean` wrote.")],
    out: Out,
    policy: PolicyName = "general",
    reject_from: RejectFrom = Action.REVIEW,
    duplicates: DuplicatesOption = DuplicatesName.KEEP,
    write_clean: WriteClean = False,
    write_quarantine: WriteQuarantine = False,
    include_captions: IncludeCaptions = False,
    as_json: AsJson = False,
) -> None:
    """Apply another policy, or other thresholds, to what was found before; no image is looked at again.

    Only to copy samples is the data read again.
    """
    from safelight.alignment.training_data import Cleaning
    from safelight.policy import Policy

    copies = (write_clean, write_quarantine)
    loaded = Policy.load(policy)
    _sort(Cleaning(folder), loaded, out, reject_from, duplicates, copies, include_captions, as_json)


@clean.command("audit")
def audit(
    folder: Annotated[Path, typer.Argument(help="What `safelight clean` or `clean sort` wrote.")],
    kept: Annotated[int, typer.Option(help="So many of those that stay.", min=0)] = 300,
    rejected: Annotated[int, typer.Option(help="So many of those that go as harmful.", min=0)] = 100,
    seed: Annotated[int, typer.Option(help="The same seed draws the same samples.", min=0)] = 0,
    labels: Annotated[
        Path | None, typer.Option(help="The labels that people gave.", show_default="draw a sample")
    ] = None,
    include_captions: IncludeCaptions = False,
    as_json: AsJson = False,
) -> None:
    """Draw a sample for people to look at, and say from their labels how much harm is left.

    Without --labels: writes audit.html, a page to label the sample in (or audit.csv, its table). With them:
    the share of harm in what stays, and of harmless samples in what goes, with intervals, into audit.json;
    the next `safelight clean sort` has them in its report. 300 that stay and are harmless say that with 95 %
    confidence less than 1 % is harmful.

    \b
    Examples:
      safelight clean audit cleaned
      safelight clean audit cleaned --labels audit.csv
    """
    from safelight.alignment.training_data import Cleaning
    from safelight.evaluation.cleaning import draw_audit, read_audit

    cleaning = Cleaning.of(folder)
    if labels is None:
        count = draw_audit(cleaning, folder, kept, rejected, seed, include_captions)
        page = folder / "audit.html"
        if as_json:
            terminal.print_json({"page": str(page), "samples": count})
        else:
            terminal.print_line(f"{count} samples are in {page}; open it, and save the labels.")
        return
    told = read_audit(cleaning, folder, labels)
    if as_json:
        terminal.print_json(told.to_dict())
    else:
        terminal.print_line(told.told())


def _engine(name: EngineName, workers: int, address: str | None) -> Engine:
    from safelight.alignment.training_data.engines import local, ray

    if name is EngineName.RAY:
        return lambda task, shards, tell: ray.run_ray(task, shards, workers, tell, address)
    return lambda task, shards, tell: local.run_local(task, shards, workers, tell)


def _anywhere(policy: str) -> str:
    """Of a file, a path that holds for workers in any folder."""
    path = Path(policy)
    return str(path.absolute()) if path.is_file() else policy


def _sort(
    cleaning: Cleaning,
    policy: Policy,
    out: Path,
    least: Action,
    duplicates: DuplicatesName,
    copies: tuple[bool, bool],
    include_captions: bool,
    as_json: bool,
) -> None:
    """``copies`` are of what stays and of what goes."""
    from safelight.alignment.training_data.duplicates import Duplicates
    from safelight.evaluation.cleaning import write_report

    tally = cleaning.sort(policy, out, least, Duplicates(duplicates))
    for wanted, kept in zip(copies, (True, False), strict=True):
        if wanted:
            with terminal.counting("Copying shards", None, as_json) as tell:
                cleaning.copy(out, kept, tell)
    report = write_report(cleaning, tally, out, include_captions)
    _tell(tally, out, report, as_json)
    if tally.given_up:
        raise typer.Exit(_WRONG)


def _tell(tally: Tally, out: Path, report: Path, as_json: bool) -> None:
    counts = tally.summary()
    if as_json:
        terminal.print_json({"out": str(out), "report": str(report), **counts})
        return
    why = ", ".join(f"{name} {count}" for name, count in counts["rejected"].items())
    terminal.print_line(f"{counts.get('kept', 0)} of {counts['samples']} samples stay.")
    if why:
        terminal.print_line(f"Rejected: {why}.")
    for name in tally.given_up:
        terminal.print_line(f"Reading crashes at {name}: the rest of that shard was not looked at.")
    terminal.print_line(f"More in {report}.")
