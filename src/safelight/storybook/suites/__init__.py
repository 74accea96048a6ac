"""Suites for the storybook model, with prompts from its caption grammar; deterministic by seed."""

from safelight.storybook.suites.catalogue import SUITES, suite
from safelight.storybook.suites.hazards import asking_for, context_suites, harm_suites
from safelight.storybook.suites.parts import ASSOCIATED

__all__ = ["ASSOCIATED", "SUITES", "asking_for", "context_suites", "harm_suites", "suite"]
