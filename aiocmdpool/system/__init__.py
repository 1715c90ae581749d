"""The operating system's edge: streams, launching, exits, signals, processes. Knows no pools and no policies."""
