"""Brings the output of commands to the terminal, in order."""
