"""Turns sources into artifacts with real tools, each in a process of its own."""
