"""Quality of cleaned training data: an audit with human labels, and a report."""

from safelight.safe_training.report.audit import Audit, draw_audit, read_audit
from safelight.safe_training.report.report import write_report

__all__ = ["Audit", "draw_audit", "read_audit", "write_report"]
