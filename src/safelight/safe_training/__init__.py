"""Safe training: remove unsafe samples from training data, audit the result, and train a model on it."""

from safelight.safe_training.objective import Objective
from safelight.safe_training.training import SafeTraining

__all__ = ["Objective", "SafeTraining"]
