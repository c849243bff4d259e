"""Outbound reads of upstream files: guarded and resumable."""
