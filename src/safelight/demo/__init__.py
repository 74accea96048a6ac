"""What a newcomer sees first: the same images without and with the guard, and the truth about each."""

from safelight.demo.demo import PAGE, SHEET, make_demo
from safelight.demo.item import DemoItem, Outcome, counts

__all__ = ["PAGE", "SHEET", "DemoItem", "Outcome", "counts", "make_demo"]
