"""Start a server: `python -m steep.server --data DIR`. It stops in good order on SIGTERM and SIGINT; workers go on."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from steep.client.config import Settings, config_file, find_admin_key, write_config
from steep.server.settings import ServerSettings

log = logging.getLogger(__name__)

CLOSE_SECONDS = 5
"""How long requests that are under way may take when the server ends."""
