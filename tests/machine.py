"""What a test needs of the system it runs on."""

from __future__ import annotations

import os
import sys

import pytest

needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to make devices")
needs_fifos = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and locks")
