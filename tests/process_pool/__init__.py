"""Tests of the pool of resident workers, with real workers and real programs."""
