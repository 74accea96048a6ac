"""How well training data was cleaned: what a labelled sample says, and a page about all of it."""

from safelight.evaluation.cleaning.audit import Audit, draw_audit, read_audit
from safelight.evaluation.cleaning.report import write_report

__all__ = ["Audit", "draw_audit", "read_audit", "write_report"]
