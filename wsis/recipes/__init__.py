"""Runs as Python functions: each returns the ordered steps with their numbers."""
