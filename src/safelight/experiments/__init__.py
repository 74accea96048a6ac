"""Evaluations of the storybook: each runs systems on suites with a judge and counts the records."""
