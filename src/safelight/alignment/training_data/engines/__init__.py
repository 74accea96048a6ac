"""What hands shards to workers."""
