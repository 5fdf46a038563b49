"""The only place where Ray is imported: sources, sinks, pools and the wiring between the stages."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Read by Ray when it is imported, which every module of this package does. What a user has set stays.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # the job of a photo archive does not phone home
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("RAY_TQDM_PATCH_PRINT", "0")  # else Ray replaces `print` for whoever uses this package

_TOKEN = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
if "ray" not in sys.modules and (os.environ.get("RAY_AUTH_TOKEN") or _TOKEN.exists()):
    # Ray 2.60 asks for a token by default and, when it connects to a cluster, does not send the one it has. A Ray that
    # was imported before has read this variable already, and would contradict the processes that it starts.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
