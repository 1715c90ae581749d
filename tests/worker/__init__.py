"""Tests of one resident worker: its program, driven by hand, and the parent's side of it against fakes."""
