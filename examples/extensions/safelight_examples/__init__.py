"""Components for safelight that live outside of it."""
