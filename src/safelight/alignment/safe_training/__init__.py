"""Safe training: a model is trained further on data from which harm was taken."""

from safelight.alignment.safe_training.objective import Objective
from safelight.alignment.safe_training.safe_training import SafeTraining

__all__ = ["Objective", "SafeTraining"]
