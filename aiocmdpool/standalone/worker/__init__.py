"""The worker itself."""
