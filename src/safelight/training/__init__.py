"""The training loop that all trainings of Safelight share, with its progress and loss curves."""
