"""The special tokens before a text.

The checkpoint's files alone decide, so that no version of a library changes a prompt:

1. `add_bos_token` in tokenizer_config.json, where it is given. true: the BOS that the files name comes first.
   false: nothing does, even where the template of tokenizer.json has it.
2. Where it is not given and `tokenizer_class` is Llama's, the BOS comes first: that is the default of the
   class, which ignores the template of tokenizer.json. This does not hold for files that transformers 5
   wrote, which have `backend` and put everything into tokenizer.json. A tokenizer.model alone counts as
   Llama's.
3. Otherwise the template of tokenizer.json decides.

1 and 2 are what transformers' LlamaTokenizerFast did up to version 4.57 (`update_post_processor`). It was
used to train models whose tokenizer.json has no template, such as DeepSeek's; version 5 does neither.

A BOS that should come first and is not in the vocabulary is an error. No EOS is ever added to a text, even
where a template or `add_eos_token` asks for it, because the token that follows the text is scored.
"""

from __future__ import annotations

from dataclasses import dataclass

from trt_common.tokenizer.configuration import CONFIGURATION, Configuration
from trt_common.tokenizer.errors import TokenizerError
from trt_common.tokenizer.model import VocabularyModel

BOS_OF_CLASS = "<s>"


@dataclass(frozen=True)
class Beginning:
    """The special tokens before every text.

    Attributes:
        ids: Their token ids.
        notes: Where this differs from the vocabulary's own file, one line each.
    """

    ids: tuple[int, ...]
    notes: tuple[str, ...]


def beginning(configuration: Configuration, model: VocabularyModel, other: str | None) -> Beginning:
    """Decide which special tokens come before every text.

    Args:
        configuration: The files beside the vocabulary.
        model: The vocabulary.
        other: The name of what else has a template; None where nothing has.

    Raises:
        TokenizerError: The BOS that should come first is not in the vocabulary.
    """
    before = model.template.before
    bos = configuration.bos or _bos_of_class(configuration, model)
    bos_id = None if bos is None else model.token_id(bos)
    end = _end_notes(configuration, model)
    if not _puts_bos(configuration):
        if configuration.add_bos is None or not before:
            return Beginning(before, end)
        note = f"no BOS is put first: {CONFIGURATION} says add_bos_token: false, though {other} puts one"
        return Beginning((), (note, *end))
    if bos is None:
        note = f"no BOS is put first: {CONFIGURATION} says add_bos_token: true, and names no bos_token"
        return Beginning(before, (note, *end) if configuration.add_bos and not before else end)
    if bos_id is None:
        raise TokenizerError(
            f"the BOS {bos!r} that is to be put before every text is not in the vocabulary: copy "
            f"{CONFIGURATION} and the vocabulary again from where the model is from"
        )
    if bos_id in before:
        return Beginning(before, end)
    return Beginning((bos_id,), (*_bos_notes(configuration, bos, bos_id, other), *end))


def _puts_bos(configuration: Configuration) -> bool:
    return configuration.puts_bos_by_class if configuration.add_bos is None else configuration.add_bos


def _bos_of_class(configuration: Configuration, model: VocabularyModel) -> str | None:
    """Return Llama's BOS, where the class is Llama's and the vocabulary has it."""
    is_there = configuration.puts_bos_by_class and model.token_id(BOS_OF_CLASS) is not None
    return BOS_OF_CLASS if is_there else None


def _bos_notes(configuration: Configuration, bos: str, bos_id: int, other: str | None) -> tuple[str, ...]:
    """Return a note on the BOS; none where the configuration asks for it and nothing else disagrees."""
    if configuration.add_bos and other is None:
        return ()
    why = f"{CONFIGURATION} says add_bos_token: true" if configuration.add_bos else "Llama's tokenizers do so"
    though = f", though {other} does not" if other else f", and {CONFIGURATION} does not say"
    return (f"BOS {bos} (id {bos_id}) is put first: {why}{though}",)


def _end_notes(configuration: Configuration, model: VocabularyModel) -> tuple[str, ...]:
    if not configuration.add_eos and not model.template.after:
        return ()
    return (
        "no EOS is put behind a text, though the tokenizer's files ask for it: what follows a text is scored",
    )
