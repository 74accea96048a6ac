"""What a newcomer sees first: the same pictures without and with the guard, and the truth about each."""

from safelight.demo.demo import PAGE, SHEET, make_demo
from safelight.demo.exhibit import Exhibit, Outcome, counts

__all__ = ["PAGE", "SHEET", "Exhibit", "Outcome", "counts", "make_demo"]
