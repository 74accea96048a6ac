"""Cleaning training data: unsafe samples are rejected, and every decision is recorded."""

from safelight.alignment.training_data.caption_groups import CaptionGroups
from safelight.alignment.training_data.cleaning import Cleaning
from safelight.alignment.training_data.engines.local import run_local
from safelight.alignment.training_data.sample import examples
from safelight.alignment.training_data.source import Form, shards_of

__all__ = ["CaptionGroups", "Cleaning", "Form", "examples", "run_local", "shards_of"]
