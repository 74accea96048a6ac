"""Evaluations on the storybook: each runs systems on suites, judges the images and counts the records."""
