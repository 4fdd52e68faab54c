"""Imported before prometheus_client, so that it keeps metrics in this process.

The library reads these variables as it is imported. Left over from another program, they would make it keep
each metric in a file of the folder that they name.
"""

from __future__ import annotations

import os

os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
os.environ.pop("prometheus_multiproc_dir", None)
