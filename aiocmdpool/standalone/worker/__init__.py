"""The worker program: its loop, its runs, and all that starts and ends programs."""
