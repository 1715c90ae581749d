"""The edge to the operating system: streams, launching, exits, signals, processes. Knows no pools and no policies."""
