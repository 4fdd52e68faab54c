"""Small files in the cache that only save time: what they hold can always be made again."""

from __future__ import annotations

import logging
import re

from trt_common.one_line import one_line
from trt_common.private_file import replace_file

from trt_server.cache.folder import cache_folder, make_cache_folder

log = logging.getLogger(__name__)


class CacheFile:
    """A file in the cache. Where two processes write it at once, the last one's content stays."""

    def __init__(self, kind: str, *name: str, suffix: str) -> None:
        """Name the file; nothing is read yet.

        Args:
            kind: Its folder in the cache.
            name: The words of its name: what its content is valid for.
            suffix: The suffix of its name.
        """
        words = (re.sub(r"[^A-Za-z0-9._]+", "-", word) for word in name if word)
        self.path = cache_folder() / kind / f"{'-'.join(words)}.{suffix}"

    def read(self) -> bytes:
        """Return the content; empty where there is none, or it cannot be read."""
        try:
            return self.path.read_bytes() if self.path.is_file() else b""
        except OSError as error:
            log.warning("%s cannot be read: %s", self.path, one_line(error))
            return b""

    def write(self, content: bytes) -> None:
        """Write the content in one step, so that a file is always complete.

        A failure is only logged, because the content is not needed to go on.
        """
        try:
            make_cache_folder(self.path.parent)
            replace_file(self.path, content)
        except OSError as error:
            log.warning("%s is not kept, and made again next time: %s", self.path, one_line(error))
