"""Pools: a bounded queue of commands in front of an executor, its runners and its lifecycle."""
