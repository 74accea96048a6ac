"""Filters of one stage run in order, each bounded, none of them believed before its findings are checked."""
