"""`python -m steep.server`: see `main.py`."""

import gc
import sys

gc.disable()  # until it serves: nothing that is imported and made on the way there is garbage, and looking is a sixth of the start

from steep.server.main import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
