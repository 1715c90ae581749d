"""Scenarios that need a Python process of their own: `python -m sync.hosts MODULE SCENARIO [ARG...]`."""
