"""Texts → token ids, as lm-eval's `hf` backend makes them: its own code splits contexts, texts and windows.

This module imports lm-eval: see `installed.py`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from trt_common.one_line import first_line_of
from trt_common.tokenizer import TokenIds

from mmlu_client.errors import InputError

# A context and what follows it.
Pair = tuple[TokenIds, TokenIds]


class HarnessEncoder(TemplateLM):  # type: ignore[misc]
    """A language model of lm-eval's that only encodes.

    The methods that its base calls do what those of lm_eval.models.huggingface.HFLM do, which would import
    PyTorch.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Take a tokenizer of transformers."""
        super().__init__()
        self.tokenizer = tokenizer
        self._pairs: list[Pair] = []
        # The context of several choices is encoded once.
        self._encoded = lru_cache(maxsize=16)(self._encode)

    @property
    def eot_token_id(self) -> int:
        """The id that ends a text."""
        found: int = self.tokenizer.eos_token_id
        return found

    @property
    def prefix_token_id(self) -> int:
        """The id that stands for an empty context: BOS, or EOS where there is none."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else int(bos)

    @cached_property
    def _prefix_text(self) -> str | None:
        found = self.prefix_token_id
        return None if found is None else str(self.tokenizer.decode(found))

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,
        **kwargs: Any,  # noqa: ARG002
    ) -> TokenIds:
        """Return the token ids of a text.

        Special tokens are added as the tokenizer's own files ask for it, but not to a text that begins with
        the BOS, unless `add_special_tokens` says otherwise.
        """
        return list(self._encoded(string, add_special_tokens))

    def _encode(self, string: str, add_special_tokens: bool | None) -> TokenIds:
        if (
            add_special_tokens is None
            and self._prefix_text is not None
            and string.startswith(self._prefix_text)
        ):
            add_special_tokens = False
        chosen = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        ids: TokenIds = self.tokenizer.encode(string, **chosen)
        return ids

    def pairs(self, requests: Sequence[tuple[str, str]]) -> list[Pair]:
        """Return the token ids of each context and of the text after it."""
        self.loglikelihood([SimpleNamespace(args=request) for request in requests], disable_tqdm=True)
        return self._pairs

    def windows(self, text: str, max_length: int) -> list[Pair]:
        """Return a whole text in windows: what stands before the scored tokens of each, and these.

        Args:
            text: the text.
            max_length: how many tokens the model takes.
        """
        rolling = get_rolling_token_windows(
            token_list=self.tok_encode(text),
            prefix_token=self.prefix_token_id,
            max_seq_len=max_length,
            context_len=1,
        )
        return list(map(make_disjoint_window, rolling))

    def _loglikelihood_tokens(self, requests: Sequence[Any], **kwargs: Any) -> list[tuple[float, bool]]:  # noqa: ARG002
        """Keep the token ids that the base made of contexts and texts."""
        self._pairs = [(context, text) for _, context, text in requests]
        return [(0.0, False)] * len(requests)

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """Refuse: lm-eval's base class wants it, and `windows` makes the windows."""
        raise NotImplementedError

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """Refuse: lm-eval's base class wants it, and nothing is generated."""
        raise NotImplementedError


def load_encoder(files: Mapping[str, bytes], name: str) -> HarnessEncoder:
    """Load the encoder from a tokenizer's files, with transformers, as `hf` does.

    Args:
        files: their contents, by file name.
        name: what messages call the tokenizer.

    Raises:
        InputError: transformers cannot load them.
    """
    import transformers

    transformers.logging.set_verbosity_error()
    try:
        with tempfile.TemporaryDirectory(prefix="mmlu-client-") as folder:
            for file, content in files.items():
                Path(folder, Path(file).name).write_bytes(content)
            return HarnessEncoder(transformers.AutoTokenizer.from_pretrained(folder, use_fast=True))
    except Exception as error:  # transformers raises what its parsers raise
        raise InputError(f"cannot load {name} with transformers: {first_line_of(error)}") from None
