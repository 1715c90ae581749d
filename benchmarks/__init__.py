"""What this package costs beside what else there is, measured side by side: `python -m benchmarks`.

    plan ── rounds (shuffled, interleaved) ── one runner process a measurement ── samples
         ── separate figures ── goals ── table, JSON, picture

Absolute figures are noise on a shared machine; what counts are ratios between measurements of the same round.
"""
