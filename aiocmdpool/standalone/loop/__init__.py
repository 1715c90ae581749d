"""The worker's event loop: descriptors and timers."""
