"""The demo: the same images without and with the guard, and what each of them really shows."""

from safelight.demo.demo import PAGE, SHEET, make_demo
from safelight.demo.item import DemoItem, Outcome, counts

__all__ = ["PAGE", "SHEET", "DemoItem", "Outcome", "counts", "make_demo"]
