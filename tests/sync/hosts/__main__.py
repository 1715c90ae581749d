"""Starts one scenario."""

import importlib
import sys

if __name__ == "__main__":
    module, scenario, *args = sys.argv[1:]
    getattr(importlib.import_module(f"sync.hosts.{module}"), scenario)(*args)
