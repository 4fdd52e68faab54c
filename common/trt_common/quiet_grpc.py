"""Keep gRPC's C core from writing to standard error. Import this module before grpc.

The core writes its own account of events that the programs report in one line.
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
