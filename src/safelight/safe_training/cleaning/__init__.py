"""Cleaning training data: unsafe samples are rejected, and every decision is recorded."""

from safelight.safe_training.cleaning.caption_groups import CaptionGroups
from safelight.safe_training.cleaning.cleaning import Cleaning
from safelight.safe_training.cleaning.engines.local import run_local
from safelight.safe_training.cleaning.sample import examples
from safelight.safe_training.cleaning.source import Form, shards_of

__all__ = ["CaptionGroups", "Cleaning", "Form", "examples", "run_local", "shards_of"]
