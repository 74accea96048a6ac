"""The one way to measure: systems x prompts x seeds -> records -> rates, with all it takes to repeat them."""

from safelight.evaluation.detectors import evaluate_detector
from safelight.evaluation.model import evaluate_model
from safelight.evaluation.rates import Rate, at_false_positives, auroc, wilson
from safelight.evaluation.record import Record, Seen
from safelight.evaluation.relations import infer_relations
from safelight.evaluation.results import write_results
from safelight.evaluation.run import evaluate
from safelight.evaluation.storybook_suites import SUITES, suite
from safelight.evaluation.suite import Case, Suite
from safelight.evaluation.system import BareSystem, GuardedSystem
from safelight.evaluation.tables import tables

__all__ = [
    "SUITES",
    "BareSystem",
    "Case",
    "GuardedSystem",
    "Rate",
    "Record",
    "Seen",
    "Suite",
    "at_false_positives",
    "auroc",
    "evaluate",
    "evaluate_detector",
    "evaluate_model",
    "infer_relations",
    "suite",
    "tables",
    "wilson",
    "write_results",
]
