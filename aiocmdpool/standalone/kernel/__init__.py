"""What the kernel is asked directly; used by the worker and by its parent."""
