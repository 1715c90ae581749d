"""Tests of live processes and pipelines: real programs, real pipes, every backend that opens."""
