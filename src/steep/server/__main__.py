"""`python -m steep.server`: see `main.py`."""

import sys

from steep.server.main import main

if __name__ == "__main__":
    sys.exit(main())
