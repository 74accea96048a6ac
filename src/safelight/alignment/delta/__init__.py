"""What an alignment changed: kept, put on and taken off a pipeline, exported, described and proved."""
