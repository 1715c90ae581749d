"""The worker's event loop."""
