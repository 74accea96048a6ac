"""Files: written at once or not at all, private, packaged and pinned, or read with the line of each error."""
