"""What is left of a command that was ended, here and with others: `python -m benchmarks.survivors`.

    peers, scenarios ── one host process a measurement ── the marked processes in /proc ── table, JSON

Nothing here is about speed: each answer is a count of processes and the time until the caller had its answer.
"""
