"""The worker: `python -I -S <this file> …`; see `worker/main.py` for the rest of its command line.

It never imports the rest of the package, nor asyncio: it is up in a few milliseconds and stays small.
"""

import os
import sys

# `python <folder>` puts the folder itself on the path; `python -I <this file>`, which is up 8 ms sooner, does not. What
# is needed is the folder above, for a moment: then the modules in here are a package, with relative imports that hold
# in the parent as well. Afterwards neither is on the path, so that nothing of this package can be taken for a module of
# the standard library.
folder = os.path.dirname(__file__)
if sys.path[0] == folder:
    sys.path.pop(0)
sys.path.insert(0, os.path.dirname(folder))
from standalone.worker.main import main  # noqa: E402

sys.path.pop(0)

if __name__ == "__main__":
    main()
