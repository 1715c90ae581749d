"""Backends whose commands are children of this process, watched by the loop or by a thread."""
