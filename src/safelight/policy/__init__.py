"""Policies: TOML files that define which findings count as harm and which action follows from which score.

A policy never runs a model, so the same findings can be judged again under another policy.
"""

from safelight.policy.category import CategoryRule, Thresholds
from safelight.policy.context import ContextRule, any_of
from safelight.policy.filters import Filters
from safelight.policy.generation import ERASURE, EarlyStop, GuidanceName, GuidanceRule, Hiding
from safelight.policy.labels import check_labels, check_reach, label_problems, reach_problems
from safelight.policy.log import Log
from safelight.policy.policy import Policy
from safelight.policy.source import PolicySource, packaged_policies, policy_path

__all__ = [
    "ERASURE",
    "CategoryRule",
    "ContextRule",
    "EarlyStop",
    "Filters",
    "GuidanceName",
    "GuidanceRule",
    "Hiding",
    "Log",
    "Policy",
    "PolicySource",
    "Thresholds",
    "any_of",
    "check_labels",
    "check_reach",
    "label_problems",
    "packaged_policies",
    "policy_path",
    "reach_problems",
]
