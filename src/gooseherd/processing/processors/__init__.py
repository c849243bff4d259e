"""Processors beside those of alignments and intervals: of sequences, signals and records with two places."""
