"""What is to be seen of a pool from outside: events, log, latencies, health, and the formats of others.

    PoolTasks ── PoolObserver ─┬─ latencies   always
                               ├─ task_log    where the logger `aiocmdpool.pool` listens
                               └─ hooks       whatever the pool was given: ChromeTrace, SpanHook, functions

Nothing in here can change or break a run. `prometheus` and `opentelemetry` need the extras of the same names and are
imported only by those who use them.
"""
