"""Files: atomic writes, private files, pinned hashes of packaged files, logs, and TOML with line numbers."""
