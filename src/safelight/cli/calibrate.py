"""``safelight calibrate``: thresholds that block as much as a service can afford."""

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
from safelight.cli.options import AsJson
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
    benign: Annotated[Path, typer.Option(help="Prompts that should pass: .txt, .jsonl, .csv, .parquet.")],
    unsafe: Annotated[
        Path | None, typer.Option(help="Prompts that should not, to see what is caught.")
    ] = None,
    policy: Annotated[str, typer.Option(help="A packaged policy or a TOML file.")] = "general",
    stage: Annotated[_Stage, typer.Option(help="The stage whose thresholds are set.")] = _Stage.PROMPT,
    max_block_rate: Annotated[
        float, typer.Option(help="The share of benign prompts that may be blocked.")
    ] = 0.01,
    column: Annotated[str, typer.Option(help="Where CSV and Parquet files have the prompts.")] = "prompt",
    out: Annotated[Path, typer.Option(help="The policy file to write.")] = Path("policy.toml"),
    as_json: AsJson = False,
) -> None:
    """Set a policy's thresholds from your own users' prompts.

    One half of the benign prompts sets the threshold of each category; on the other half it is counted how
    often any category blocks, and an exact bound (Clopper-Pearson, 95 %) says how often that may be in the
    long run. Writes the policy, comments kept, and prints what each threshold blocks.

    \b
    Examples:
      safelight calibrate --benign prompts.txt --max-block-rate 0.005 --out policies/ours.toml
      safelight calibrate --benign ok.csv --unsafe bad.csv --column text
    """
    from safelight.evaluation.calibration import calibrate as fit
    from safelight.evaluation.calibration import without_thresholds
    from safelight.guard.guard import Guard

    guard = Guard.from_policy(policy, stages=(stage.value,))
    blind = guard.with_policy(without_thresholds(guard.policy))

    def look(prompts: Sequence[str]) -> list[Verdict]:
        with terminal.progress("Screening") as tell:
            verdicts = []
            for start in range(0, len(prompts), _BATCH):
                verdicts += blind.screen_prompts(prompts[start : start + _BATCH])
                tell(len(verdicts), len(prompts))
            return verdicts

    result = fit(
        guard.policy,
        stage.value,
        look,
        _prompts(benign, column),
        _prompts(unsafe, column) if unsafe else (),
        max_block_rate,
    )
    _write(policy, out, stage.value, result)
    _show(result, out, as_json)


def _prompts(path: Path, column: str) -> list[str]:
    from safelight.cli.items import read_items

    if not path.is_file():
        raise RequestError(f"there is no file {path}; give one that exists.")
    items = list(read_items([str(path)], BytesIO(), column=column))
    if broken := next(
        (item for item in items if item.kind != "prompt" or not isinstance(item.value, str)), None
    ):
        raise RequestError(f"there is no prompt at {broken.name}; correct it there.")
    return [item.value for item in items]


def _write(name_or_path: str, out: Path, stage: str, result: Calibration) -> None:
    """The policy file with the new thresholds in it and everything else, comments too, as it was."""
    import tomlkit

    from safelight.policy import policy_path

    path = policy_path(name_or_path)
    document = tomlkit.parse(path.read_text("utf-8"))
    document["version"] = f"{document['version']}.calibrated"
    if path.parent.resolve() != out.parent.resolve():
        _lead_on(document, result.policy, path)
    for row in result.categories:
        thresholds = getattr(result.policy.categories[row.category], stage)
        table: Any = document
        for key in ("categories", row.category, stage):  # which a policy that it extends may have
            table = table.setdefault(key, tomlkit.inline_table() if key == stage else tomlkit.table())
        for action, threshold in thresholds.steps():
            table[action.value] = threshold
    rate, bound = result.benign, result.bound
    note = (
        f"{shlex.join(['safelight', *sys.argv[1:]])}: blocked {rate.k} of {rate.n} benign, bound {bound:.4f}"
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f"# {note}\n{tomlkit.dumps(document)}", "utf-8")


def _lead_on(document: Any, policy: Policy, path: Path) -> None:
    """Makes the paths in the document, which start at the folder of ``path``, lead there from any other."""
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


def _show(result: Calibration, out: Path, as_json: bool) -> None:
    if as_json:
        terminal.print_json(_plain(result, out))
        return
    cells = [
        (row.category, f"{row.before:.2f}", f"{row.threshold:.4f}", _share(row.benign), _share(row.recall))
        for row in result.categories
    ]
    total = ("any category", "", "", _share(result.benign), _share(result.recall))
    terminal.print_table(
        ("category", "was", "block from", "benign blocked", "unsafe blocked"), [*cells, total]
    )
    terminal.print_line(
        f"In the long run at most {result.bound:.2%} of such prompts are blocked (95 % sure)."
    )
    terminal.note(f"The policy is in {out}.")


def _share(rate: Any) -> str:
    if rate is None:
        return ""
    low, high = rate.interval
    return f"{rate.rate:.1%} ({low:.1%} to {high:.1%})"


def _plain(result: Calibration, out: Path) -> dict[str, Any]:
    return {
        "policy": str(out),
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
