"""Fuzzing: many damaged and hostile inputs, at a small size in the tests and at full size with make fuzz."""
