"""``safelight policy``: checks, shows, tests and compares policies."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safelight.cli import terminal
from safelight.cli.options import POLICY_HELP, AsJson
from safelight.cli.renamed_options import Commands
from safelight.types import STAGES

if TYPE_CHECKING:
    from safelight.evaluation.policy_cases import CaseResult
    from safelight.evaluation.policy_diff import PolicyDiff
    from safelight.policy import Policy

_WRONG, _NOT_MET = 2, 3

policy = Commands(
    name="policy",
    help="Check, show, test and compare policies.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class _StageName(StrEnum):
    PROMPT = "prompt"
    IMAGE = "image"
    PAIR = "pair"


Name = Annotated[str, typer.Argument(metavar="POLICY", help=POLICY_HELP)]


@policy.command()
def check(
    name: Name,
    stage: Annotated[
        list[_StageName] | None,
        typer.Option(help="Check the filters of this stage only; repeatable.", show_default="all stages"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find all errors in a policy before it is used.

    Reads the file and those that it extends, looks for every file and optional package that its filters need,
    loads the filters, and compares the labels that they report with those that the policy has rules for.
    Prints one problem per line. Exits with 2 if there are problems, and otherwise with 0.

    \b
    Examples:
      safelight policy check ours.toml
      safelight policy check general --stage prompt
    """
    from safelight.evaluation.policy_check import policy_problems

    with terminal.busy("Loading the filters …"):
        problems = policy_problems(name, [each.value for each in stage or _StageName])
    if as_json:
        terminal.print_json({"policy": name, "problems": problems})
    else:
        for problem in problems:
            terminal.print_line(problem)
        if not problems:
            terminal.print_line(f"{name}: no problems found.")
    if problems:
        raise typer.Exit(_WRONG)


@policy.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Print a policy as TOML, merged with those that it extends.

    Paths are printed as absolute paths, so that the output works in any folder.

    \b
    Examples:
      safelight policy show general
      safelight policy show ours.toml > whole.toml
    """
    from safelight.policy import Policy

    shown = Policy.load(name)
    if as_json:
        terminal.print_json({"id": shown.id, **_plain(shown)})
    else:
        typer.echo(f"# {shown.id}\n{_toml(_plain(shown))}", nl=False)


@policy.command("test")
def run_cases(
    name: Name,
    cases: Annotated[Path, typer.Argument(metavar="CASES", help="JSONL file of test cases.")],
    as_json: AsJson = False,
) -> None:
    """Screen test cases, and print those with an unexpected action.

    A line of CASES is {"prompt": "a cat", "expect": "allow"}, {"path": "image.png", "expect": "block"}, or
    has both a prompt and a path, which are screened as a pair. "expect" is an action, a list of accepted
    actions, or ">=review" for that action and all more severe ones ("<=review": and all milder ones). The
    actions are allow, review, steer, blur and block, mildest first. Paths are relative to the folder of
    CASES.

    Exits with 0 if all cases are as expected, with 3 if one is not, and with 2 if one could not be read or
    screened.

    \b
    Example:
      safelight policy test ours.toml cases.jsonl
    """
    from safelight.evaluation.policy_cases import judge_cases, read_cases
    from safelight.guard.guard import Guard

    read = read_cases(cases)
    guard = Guard.from_policy(name, stages=[case.stage for case in read])
    with terminal.counting("Screening", len(read), as_json) as report:
        results = []
        for result in judge_cases(guard, read):
            results.append(result)
            report(len(results))
    results.sort(key=lambda result: result.case.line)
    _print_results(guard.policy.id, results, as_json)
    if any(result.failed for result in results):
        raise typer.Exit(_WRONG)
    if not all(result.met for result in results):
        raise typer.Exit(_NOT_MET)


@policy.command()
def diff(
    one: Annotated[str, typer.Argument(metavar="A", help=POLICY_HELP)],
    other: Annotated[
        str, typer.Argument(metavar="B", help="Policy to compare it with, also packaged or a TOML file.")
    ],
    on: Annotated[Path, typer.Option(help="JSONL file of records that `safelight screen` wrote.")],
    as_json: AsJson = False,
) -> None:
    """Apply two policies to an earlier run, and print what changes.

    Lists the items whose action changes. No filter runs; the findings are in the file. Filters that come
    after a block did not run then, so under a policy that blocks less an item may get a milder action here
    than when it is screened again. Of an animation the file has only the frame with the most severe action.
    Items that could not be read or screened are blocked under any policy, and are left out. Exits with 0
    whatever changes.

    \b
    Examples:
      safelight screen prompts.txt --policy general --json > verdicts.jsonl
      safelight policy diff general ours.toml --on verdicts.jsonl
    """
    from safelight.evaluation.policy_diff import compare_policies
    from safelight.policy import Policy

    first, second = Policy.load(one), Policy.load(other)
    _print_diff(first, second, compare_policies(first, second, on), as_json)


def _print_results(id_: str, results: list[CaseResult], as_json: bool) -> None:
    wrong = [result for result in results if not result.met]
    if as_json:
        counts = {"cases": len(results), "met": len(results) - len(wrong)}
        terminal.print_json({"policy": id_, **counts, "failures": [result.to_dict() for result in wrong]})
        return
    rows = [
        (f"line {r.case.line}", r.case.name, f"expected {r.case.expectation.text}", r.verdict.explain())
        for r in wrong
    ]
    terminal.print_table(("", "case", "", "verdict"), rows)
    terminal.print_line(f"{len(results) - len(wrong)} of {len(results)} cases are as expected by {id_}.")


def _print_diff(one: Policy, other: Policy, found: PolicyDiff, as_json: bool) -> None:
    if as_json:
        terminal.print_json(
            {
                "a": one.id,
                "b": other.id,
                "judged": found.judged,
                "skipped": found.skipped,
                "counts": [{"from": a, "to": b, "items": n} for (a, b), n in found.counts.items()],
                "changes": [change.to_dict() for change in found.changes],
            }
        )
        return
    rows = [
        (c.before.action.value, c.after.action.value, c.item.name, _why(c.after.explain()))
        for c in found.changes
    ]
    terminal.print_table((one.id, other.id, "item", "why"), rows)
    changes = ", ".join(f"{n} from {a} to {b}" for (a, b), n in found.counts.items()) or "none"
    skipped = f"; {found.skipped} could not be screened" if found.skipped else ""
    terminal.print_line(
        f"The action of {len(found.changes)} of {found.judged} items changes: {changes}{skipped}."
    )


def _why(explained: str) -> str:
    return explained.partition(": ")[2]


def _plain(shown: Policy) -> dict[str, Any]:
    """Return the policy's tables as in a TOML file, with absolute paths."""
    from safelight.screening.listed_filter import listed_filters

    tables = dict(shown.source.data if shown.source else {})
    for stage in STAGES:
        for each in listed_filters(shown, stage):
            options = tables["filters"].get("options", {}).get(each.name)
            if options is not None:
                options.update(each.options)
    if shown.deltas:
        tables["guidance"]["deltas"] = {name: str(path.absolute()) for name, path in shown.deltas.items()}
    removed = shown.source.removed if shown.source else frozenset()
    tables["context"] = [rule for rule in tables.get("context", []) if rule["category"] not in removed]
    for label, of in tables.get("labels", {}).items():
        tables["labels"][label] = [category for category in of if category not in removed]
    return tables


def _toml(tables: dict[str, Any]) -> str:
    """Return the tables as TOML, with the thresholds of a stage on one line."""
    import tomlkit

    document = tomlkit.item(tables)
    for rule in tables.get("categories", {}):
        table: Any = document["categories"][rule]
        for stage in STAGES:
            if stage in table:
                inline = tomlkit.inline_table()
                inline.update(tables["categories"][rule][stage])
                table[stage] = inline
    return tomlkit.dumps(document)
