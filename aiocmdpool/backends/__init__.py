"""Executors of this package that have a lifecycle, one file for each execution mode."""
