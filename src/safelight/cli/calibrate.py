"""``safelight calibrate``: fits a policy's thresholds to a largest rate of blocked benign prompts."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safelight.cli import terminal
from safelight.cli.options import AsJson, PolicyName
from safelight.errors import RequestError
from safelight.types import STAGES

if TYPE_CHECKING:
    from safelight.evaluation.calibration import Calibration
    from safelight.policy import Policy
    from safelight.types import Verdict

_BATCH = 64


class _Stage(StrEnum):
    PROMPT = "prompt"


def calibrate(
    benign: Annotated[
        Path, typer.Option(help="File of benign prompts, which should pass: .txt, .jsonl, .csv or .parquet.")
    ],
    unsafe: Annotated[
        Path | None,
        typer.Option(
            help="File of harmful prompts, in the same formats, to measure the recall of each threshold.",
            show_default="recall is not measured",
        ),
    ] = None,
    policy: PolicyName = "general",
    stage: Annotated[
        _Stage, typer.Option(help="Stage whose thresholds are set; so far only prompt.")
    ] = _Stage.PROMPT,
    max_block_rate: Annotated[
        float, typer.Option(help="Largest share of benign prompts that may be blocked, from 0 to 1.")
    ] = 0.01,
    column: Annotated[
        str, typer.Option(help="Column or key of the prompts in CSV, Parquet and JSONL files.")
    ] = "prompt",
    output: Annotated[Path, typer.Option(help="TOML file for the calibrated policy.")] = Path("policy.toml"),
    as_json: AsJson = False,
) -> None:
    """Set a policy's thresholds from prompts of your own users.

    One half of the benign prompts sets the threshold of each category. On the other half the command counts
    how many prompts any category blocks, and gives an exact upper bound of that rate (Clopper-Pearson,
    95 % confidence). It writes the policy with its comments kept, and prints what each threshold blocks.

    \b
    Examples:
      safelight calibrate --benign prompts.txt --max-block-rate 0.005 --output policies/ours.toml
      safelight calibrate --benign ok.csv --unsafe bad.csv --column text
    """
    from safelight.evaluation.calibration import calibrate as fit
    from safelight.evaluation.calibration import without_thresholds
    from safelight.guard.guard import Guard

    guard = Guard.from_policy(policy, stages=(stage.value,))
    scoring = guard.with_policy(without_thresholds(guard.policy))

    def score(prompts: Sequence[str]) -> list[Verdict]:
        with terminal.progress("Screening") as report:
            verdicts = []
            for start in range(0, len(prompts), _BATCH):
                verdicts += scoring.screen_prompts(prompts[start : start + _BATCH])
                report(len(verdicts), len(prompts))
            return verdicts

    result = fit(
        guard.policy,
        stage.value,
        score,
        _prompts(benign, column),
        _prompts(unsafe, column) if unsafe else (),
        max_block_rate,
    )
    _write(policy, output, stage.value, result)
    _show(result, output, as_json)


def _prompts(path: Path, column: str) -> list[str]:
    from safelight.cli.items import read_items

    if not path.is_file():
        raise RequestError(f"there is no file {path}; give one that exists.")
    items = list(read_items([str(path)], BytesIO(), column=column))
    if broken := next(
        (item for item in items if item.kind != "prompt" or not isinstance(item.value, str)), None
    ):
        raise RequestError(f"there is no prompt at {broken.name}; correct that line or row.")
    return [item.value for item in items]


def _write(name_or_path: str, output: Path, stage: str, result: Calibration) -> None:
    """Write the policy file with the new thresholds; everything else, including comments, is unchanged."""
    import tomlkit

    from safelight.policy import policy_path

    path = policy_path(name_or_path)
    document = tomlkit.parse(path.read_text("utf-8"))
    document["version"] = f"{document['version']}.calibrated"
    if path.parent.resolve() != output.parent.resolve():
        _make_paths_absolute(document, result.policy, path)
    for row in result.categories:
        thresholds = getattr(result.policy.categories[row.category], stage)
        table: Any = document
        for key in ("categories", row.category, stage):  # a table may be missing if an extended policy has it
            table = table.setdefault(key, tomlkit.inline_table() if key == stage else tomlkit.table())
        for action, threshold in thresholds.steps():
            table[action.value] = threshold
    rate, bound = result.benign, result.bound
    note = (
        f"{shlex.join(['safelight', *sys.argv[1:]])}: blocked {rate.k} of {rate.n} benign, bound {bound:.4f}"
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(f"# {note}\n{tomlkit.dumps(document)}", "utf-8")


def _make_paths_absolute(document: Any, policy: Policy, path: Path) -> None:
    """Make the document's paths, which are relative to the folder of ``path``, absolute."""
    from safelight.policy import packaged_policies
    from safelight.screening.listed_filter import listed_filters

    if "extends" in document and document["extends"] not in packaged_policies():
        document["extends"] = str((path.parent / document["extends"]).absolute())
    for stage in STAGES:
        for each in listed_filters(policy, stage):
            options = document.get("filters", {}).get("options", {}).get(each.name, {})
            for option in options.keys() & each.options.keys():
                if options[option] != each.options[option]:
                    options[option] = each.options[option]
    deltas = document.get("guidance", {}).get("deltas", {})
    for name in deltas:
        deltas[name] = str(policy.deltas[name].absolute())


def _show(result: Calibration, output: Path, as_json: bool) -> None:
    if as_json:
        terminal.print_json(_plain(result, output))
        return
    cells = [
        (row.category, f"{row.before:.2f}", f"{row.threshold:.4f}", _share(row.benign), _share(row.recall))
        for row in result.categories
    ]
    total = ("any category", "", "", _share(result.benign), _share(result.recall))
    terminal.print_table(
        ("category", "old threshold", "new threshold", "benign blocked", "unsafe blocked"), [*cells, total]
    )
    terminal.print_line(
        f"At most {result.bound:.2%} of such benign prompts are blocked in the long run (95 % confidence)."
    )
    terminal.note(f"The policy is in {output}.")


def _share(rate: Any) -> str:
    if rate is None:
        return ""
    low, high = rate.interval
    return f"{rate.rate:.1%} ({low:.1%} to {high:.1%})"


def _plain(result: Calibration, output: Path) -> dict[str, Any]:
    return {
        "policy": str(output),
        "benign": result.benign.to_dict(),
        "bound": result.bound,
        "recall": result.recall.to_dict() if result.recall else None,
        "categories": {
            row.category: {
                "before": row.before,
                "threshold": row.threshold,
                "benign": row.benign.to_dict(),
                "recall": row.recall.to_dict() if row.recall else None,
            }
            for row in result.categories
        },
    }
