"""Direct interfaces to the kernel, for the worker and its parent."""
