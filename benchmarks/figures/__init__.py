"""Figures that are no race: an idle pool, its start, a thousand sleepers, large output beside small, the heartbeat.

Each module is both halves of one figure: `measure` in the harness, and `main` in a process of its own.
"""
