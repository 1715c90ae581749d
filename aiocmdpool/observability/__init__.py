"""Observing a pool from outside: events, log, latencies, health, and exports to other formats.

    PoolTasks ── PoolObserver ─┬─ latencies   always
                               ├─ task_log    where the logger `aiocmdpool.pool` listens
                               └─ hooks       whatever the pool was given: ChromeTrace, SpanHook, functions

Nothing in here can change or break a run. `prometheus` and `opentelemetry` need the extras of the same names and are
only imported by users who need them.
"""
