"""The bundled checkpoint: the server's `--model demo` and the client's `--tokenizer demo`."""

from __future__ import annotations

from pathlib import Path

NAME = "demo"
FOLDER = Path(__file__).parent
