"""The HTTP edge: byte ranges of artifacts, jobs to follow, the catalog, and nothing of the engine itself."""
