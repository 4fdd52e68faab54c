"""The demo model's tokenizer: byte-level BPE, trained on the words of the training questions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tools.demo_model.architecture import CONTEXT, VOCABULARY
from tools.demo_model.prompt import header
from tools.demo_model.question import LETTERS
from tools.demo_model.split import Split

BOS = "<s>"
EOS = "</s>"
# "\nAnswer:" and "\nA." as byte-level BPE spells them.
ANSWER = "ĊAnswer:"
LABELS = ("ĊA.", "ĊB.", "ĊC.", "ĊD.")

# Words and numbers include the space before them. An option's letter and "Answer:" are one piece with the
# line break before them, so that a question takes few tokens and an option's letter is directly before its
# text.
PIECES = r"\n[A-D]\.|\nAnswer:|\n+| ?\p{L}+| ?\p{N}{1,4}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s"


def train_tokenizer(splits: Iterable[Split]) -> Tokenizer:
    """Return a tokenizer whose post-processor puts a BOS first; it is the same for the same splits."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_training_text(splits), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer


def _training_text(splits: Iterable[Split]) -> Iterator[str]:
    for each in splits:
        yield header(each.subject)
        for fact in each.training:
            # Answers are repeated, so that each becomes a single token.
            options = "".join(f"\n{letter}. {fact.answer}" for letter in LETTERS)
            yield "\n".join(fact.stems) + options + "\nAnswer: A B C D\n\n"


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json as transformers reads them."""
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
