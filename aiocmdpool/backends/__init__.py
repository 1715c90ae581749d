"""Executors of ours with a lifecycle, one file a mode."""
