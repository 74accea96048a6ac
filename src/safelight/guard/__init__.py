"""Guards: screening around the calls of a pipeline, for one caller or for many."""
