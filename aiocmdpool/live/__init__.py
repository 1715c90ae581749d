"""Live processes and pipelines: talking to programs while they run.

    process.py    open ── pipes (wiring) ── run (owned_run) ── streams ── leave: end, reap, close
    pipeline_run  stages ── kernel pipes ── a run for each ── one end for all

Nothing is started here: an executor runs the command, and calls back when the program has started.
"""
