"""The worker program: `python -I -S <this file> …`; see `worker/main.py` for the rest of its command line.

It imports neither the rest of the package nor asyncio, so it starts in a few milliseconds and stays small.
"""

import os
import sys

# `python <folder>` puts the folder itself on the path; `python -I <this file>`, which starts 8 ms faster, does not. The
# folder above is needed for a moment: then the modules in here form a package, with relative imports that work in the
# parent, too. Afterwards neither is on the path, so that no module of this package can be taken for one of the standard
# library.
folder = os.path.dirname(__file__)
if sys.path[0] == folder:
    sys.path.pop(0)
sys.path.insert(0, os.path.dirname(folder))
from standalone.worker.main import main  # noqa: E402

sys.path.pop(0)

if __name__ == "__main__":
    main()
