"""``safelight clean``: removes unsafe samples from training data."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from safelight.cli import terminal
from safelight.cli.options import AsJson, PolicyName, Seed
from safelight.cli.renamed_options import Command, Commands
from safelight.concurrency.thread_count import thread_count
from safelight.errors import RequestError, unknown_name
from safelight.types import Action

if TYPE_CHECKING:
    from safelight.policy import Policy
    from safelight.safe_training.cleaning.cleaning import Cleaning, Engine
    from safelight.safe_training.cleaning.tally import Tally


_WRONG = 2
# The command that runs if no subcommand is given; it is unlikely to be the name of a folder.
_SOURCE = "SOURCE"


class _Cleaning(TyperGroup):
    """A command group that treats a first argument that is not a subcommand as the data to clean."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and (args[0] == _SOURCE or args[0] not in self.commands):
            args = [_SOURCE, *args]
        return super().resolve_command(ctx, args)


class _SourceCommand(Command):
    """The command without a name: its usage is ``safelight clean SOURCE [OPTIONS]``."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [self.options_metavar or ""]


clean = Commands(
    cls=_Cleaning,
    name="clean",
    help="Remove unsafe samples from training data. Usage: safelight clean SOURCE --output DIR.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class EngineName(StrEnum):
    """The engine on which workers run."""

    LOCAL = "local"
    RAY = "ray"


class DuplicatesName(StrEnum):
    """Which duplicate images are rejected."""

    KEEP = "keep"
    EXACT = "exact"
    NEAR = "near"


DuplicatesOption = Annotated[
    DuplicatesName,
    typer.Option(
        "--duplicates",
        help="Rejection of duplicate images: keep them all, reject identical files (exact), or images "
        "that look alike by their PDQ hash as well (near). The first copy is always kept.",
    ),
]
Output = Annotated[
    Path,
    typer.Option("--output", help="Folder DIR for the findings, decisions and report.", show_default=False),
]
RejectFrom = Annotated[
    Action,
    typer.Option(
        help="Reject a sample if the policy's action for it is this one or a more severe one (listed from "
        "mild to severe)."
    ),
]
FormName = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Format of SOURCE: folder, webdataset, parquet or arrow (saved by the datasets library).",
        show_default="detected by the file names",
    ),
]
ImageColumn = Annotated[
    str | None,
    typer.Option(
        "--image-column",
        help="Column or key of the images or of their paths.",
        show_default="detected by name",
    ),
]
CaptionColumn = Annotated[
    str | None,
    typer.Option("--caption-column", help="Column or key of the captions.", show_default="detected by name"),
]
Workers = Annotated[
    int, typer.Option(help="Number of worker processes; 0 means OMP_NUM_THREADS, or one per core.", min=0)
]
EngineOption = Annotated[
    EngineName, typer.Option("--engine", help="Engine of the workers: this machine or a Ray cluster.")
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Address of the Ray cluster; only with --engine ray.",
        show_default="RAY_ADDRESS, or a new cluster on this machine",
    ),
]
Groups = Annotated[
    Path | None,
    typer.Option(
        help="TOML file with a list of words for each group of captions that the report counts.",
        show_default="the packaged groups",
    ),
]
WriteClean = Annotated[
    bool,
    typer.Option("--write-clean", help="Copy kept samples to DIR/clean, in the same shards as the source."),
]
WriteQuarantine = Annotated[
    bool,
    typer.Option(
        "--write-quarantine",
        help="Copy rejected samples to DIR/quarantine, in the same shards as the source.",
    ),
]
IncludeCaptions = Annotated[
    bool,
    typer.Option(
        "--include-captions",
        help="Show captions on the HTML page, which is then readable by its owner only; by default they are "
        "left out.",
    ),
]


@clean.command(_SOURCE, cls=_SourceCommand)
def clean_data(
    source: Annotated[
        str,
        typer.Argument(metavar=_SOURCE, help="Data to clean: a folder, a file, or a URL that fsspec opens."),
    ],
    output: Output,
    policy: PolicyName = "general",
    form: FormName = None,
    image: ImageColumn = None,
    caption: CaptionColumn = None,
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
    """Screen every sample, and list which are kept and which rejected.

    The filters of a policy screen the samples. SOURCE is a folder of images, with captions in .txt or .json
    files beside them, in metadata.jsonl or in captions.csv; WebDataset tar files; Parquet files with images
    or their paths; or a data set saved by the datasets library. Nothing in it is changed. The command writes
    to DIR: kept.parquet; rejected.parquet with the category, score, filter and reason of each sample;
    summary.json; and the findings of every sample, so that `safelight clean sort` can apply another policy
    without screening again.

    A run that was interrupted resumes when the same command is given again. A sample that crashes its decoder
    is rejected as unreadable. If reading a shard keeps crashing, the rest of the shard is skipped and the
    command exits with 2. All machines of a Ray cluster must be able to read SOURCE and write DIR.

    \b
    Examples:
      safelight clean images/ --output cleaned
      safelight clean s3://bucket/shards/ --policy policy.toml --output cleaned --workers 16
      safelight clean /mnt/images --engine ray --address head:6379 --workers 64 --output /mnt/cleaned
      safelight clean sort cleaned --policy stricter.toml --output stricter
    """
    from safelight.guard.guard import Guard
    from safelight.policy import Policy
    from safelight.safe_training.cleaning import CaptionGroups, Cleaning, Form, shards_of

    if form and form not in list(Form):
        raise RequestError(unknown_name("format", form, list(Form)))
    if address and engine is not EngineName.RAY:
        raise RequestError("--address is for --engine ray; add that or leave it out.")
    chosen, loaded, cleaning = Form(form) if form else None, Policy.load(policy), Cleaning(output)
    settings = {"source": source, "form": chosen, "image": image, "caption": caption}
    with terminal.counting("Screening", None, as_json) as report:
        cleaning.screen(
            partial(shards_of, source, chosen, image, caption),
            partial(Guard.from_policy, _absolute(policy)),
            settings,
            _engine(engine, workers or thread_count(), address),
            report,
            CaptionGroups.load(groups),
            duplicates is DuplicatesName.NEAR,
        )
    copies = (write_clean, write_quarantine)
    _sort(cleaning, loaded, output, reject_from, duplicates, copies, include_captions, as_json)


@clean.command("sort")
def sort(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder that an earlier `safelight clean` wrote.")
    ],
    output: Output,
    policy: PolicyName = "general",
    reject_from: RejectFrom = Action.REVIEW,
    duplicates: DuplicatesOption = DuplicatesName.KEEP,
    write_clean: WriteClean = False,
    write_quarantine: WriteQuarantine = False,
    include_captions: IncludeCaptions = False,
    as_json: AsJson = False,
) -> None:
    """Apply another policy or other thresholds to an earlier run.

    Decides again from the findings that the earlier run wrote. No filter runs, and the data is read again
    only to copy samples.
    """
    from safelight.policy import Policy
    from safelight.safe_training.cleaning import Cleaning

    copies = (write_clean, write_quarantine)
    loaded = Policy.load(policy)
    _sort(Cleaning(folder), loaded, output, reject_from, duplicates, copies, include_captions, as_json)


@clean.command("audit")
def audit(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder that `safelight clean` or `clean sort` wrote.")
    ],
    kept: Annotated[int, typer.Option(help="Number of kept samples to draw.", min=0)] = 300,
    rejected: Annotated[
        int, typer.Option(help="Number of samples rejected as harmful to draw.", min=0)
    ] = 100,
    seed: Seed = 0,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="audit.csv with the reviewers' labels, to compute the results.",
            show_default="none: a sample is drawn",
        ),
    ] = None,
    include_captions: IncludeCaptions = False,
    as_json: AsJson = False,
) -> None:
    """Estimate the harm that is left, from a sample that people label.

    Without --labels it writes audit.html, a page for labelling the sample, and audit.csv, the same as a
    table. With --labels it writes audit.json: the share of harmful samples among those kept, and of harmless
    samples among those rejected, with confidence intervals; the next `safelight clean sort` includes them in
    its report. If all of 300 kept samples are harmless, less than 1 % of the kept data is harmful with 95 %
    confidence.

    \b
    Examples:
      safelight clean audit cleaned
      safelight clean audit cleaned --labels audit.csv
    """
    from safelight.safe_training.cleaning import Cleaning
    from safelight.safe_training.report import draw_audit, read_audit

    cleaning = Cleaning.of(folder)
    if labels is None:
        count = draw_audit(cleaning, folder, kept, rejected, seed, include_captions)
        page = folder / "audit.html"
        if as_json:
            terminal.print_json({"page": str(page), "samples": count})
        else:
            terminal.print_line(f"{count} samples are in {page}; open it, label them, and save the labels.")
        return
    result = read_audit(cleaning, folder, labels)
    if as_json:
        terminal.print_json(result.to_dict())
    else:
        terminal.print_line(result.summary())


def _engine(name: EngineName, workers: int, address: str | None) -> Engine:
    from safelight.safe_training.cleaning.engines import local, ray

    if name is EngineName.RAY:
        return lambda task, shards, report: ray.run_ray(task, shards, workers, report, address)
    return lambda task, shards, report: local.run_local(task, shards, workers, report)


def _absolute(policy: str) -> str:
    """Return the absolute path of a policy file, for workers in any folder; other names unchanged."""
    path = Path(policy)
    return str(path.absolute()) if path.is_file() else policy


def _sort(
    cleaning: Cleaning,
    policy: Policy,
    output: Path,
    reject_from: Action,
    duplicates: DuplicatesName,
    copies: tuple[bool, bool],
    include_captions: bool,
    as_json: bool,
) -> None:
    """Sort, copy and report; ``copies`` is whether to copy the kept, and the rejected samples."""
    from safelight.safe_training.cleaning.duplicates import Duplicates
    from safelight.safe_training.report import write_report

    tally = cleaning.sort(policy, output, reject_from, Duplicates(duplicates))
    for wanted, kept in zip(copies, (True, False), strict=True):
        if wanted:
            with terminal.counting("Copying shards", None, as_json) as report:
                cleaning.copy(output, kept, report)
    page = write_report(cleaning, tally, output, include_captions)
    _show(tally, output, page, as_json)
    if tally.given_up:
        raise typer.Exit(_WRONG)


def _show(tally: Tally, output: Path, page: Path, as_json: bool) -> None:
    counts = tally.summary()
    if as_json:
        terminal.print_json({"out": str(output), "report": str(page), **counts})
        return
    why = ", ".join(f"{name} {count}" for name, count in counts["rejected"].items())
    terminal.print_line(f"Kept {counts.get('kept', 0)} of {counts['samples']} samples.")
    if why:
        terminal.print_line(f"Rejected: {why}.")
    for name in tally.given_up:
        terminal.print_line(f"Reading {name} crashes repeatedly: the rest of that shard was not screened.")
    terminal.print_line(f"The report is in {page}.")
