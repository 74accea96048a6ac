"""The one training loop, its progress and its curves; every training of Safelight runs on it."""
