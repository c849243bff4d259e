"""Queries of a finished artifact, compared with its data and its source."""
