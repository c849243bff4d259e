"""Running other people's programs: pipelines, limits, isolation, progress, errors."""
