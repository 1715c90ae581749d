"""The protocol between a worker and its parent."""
