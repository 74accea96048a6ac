"""Evaluation: systems answer suites, a judge labels the images, and rates are counted over the records."""

from safelight.evaluation.judge import FilterJudge, FunctionJudge, load_judge
from safelight.evaluation.prompt_file import read_suite
from safelight.evaluation.rates import Rate, at_false_positives, auroc, wilson
from safelight.evaluation.record import Record
from safelight.evaluation.results import write_results
from safelight.evaluation.run import by_case, evaluate
from safelight.evaluation.system import BareSystem, GuardedSystem
from safelight.evaluation.tables import Row, distance, rows, shows
from safelight.types import Case, Judgement, Suite

__all__ = [
    "BareSystem",
    "Case",
    "FilterJudge",
    "FunctionJudge",
    "GuardedSystem",
    "Judgement",
    "Rate",
    "Record",
    "Row",
    "Suite",
    "at_false_positives",
    "auroc",
    "by_case",
    "distance",
    "evaluate",
    "load_judge",
    "read_suite",
    "rows",
    "shows",
    "wilson",
    "write_results",
]
