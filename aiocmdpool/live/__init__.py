"""Programs that one talks to while they run: their streams, their pipelines.

    process.py    open ── pipes (wiring) ── run (owned_run) ── streams ── leave: end, reap, close
    pipeline_run  stages ── kernel pipes ── a run for each ── one end for all

This room starts nothing itself. It knows executors only as something that runs a command and tells of its start.
"""
