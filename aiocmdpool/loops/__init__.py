"""Waiting that is safe: through cancellations, for the end of a loop, at gates that no signal handler can block."""
