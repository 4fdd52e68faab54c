"""Small files in the cache that save time and nothing else: what they hold can always be made again."""

from __future__ import annotations

import logging
import os
import re
import threading
from contextlib import suppress

from trt_common.one_line import one_line

from trt_server.cache.folder import cache_folder

log = logging.getLogger(__name__)


class KeptFile:
    """Of two that write it at once, the last one's stays."""

    def __init__(self, kind: str, *name: str, suffix: str) -> None:
        """kind: its folder in the cache. name: what it is for."""
        words = (re.sub(r"[^A-Za-z0-9._]+", "-", word) for word in name if word)
        self.path = cache_folder() / kind / f"{'-'.join(words)}.{suffix}"

    def read(self) -> bytes:
        """Empty where there is none that can be read."""
        try:
            return self.path.read_bytes() if self.path.is_file() else b""
        except OSError as error:
            log.warning("%s cannot be read: %s", self.path, one_line(error))
            return b""

    def write(self, content: bytes) -> None:
        """Under another name first: what bears its name is complete. A cache that takes nothing is no reason
        to fail: what the file is for was done without it."""
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            partial.replace(self.path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            log.warning("%s is not kept, and made again next time: %s", self.path, one_line(error))
