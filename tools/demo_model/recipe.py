"""The settings of the training; the same recipe gives the same model on the same machine."""

from __future__ import annotations

from dataclasses import dataclass

from tools.demo_model.lessons import Stage


@dataclass(frozen=True)
class Recipe:
    """All settings of the training.

    Both learning rates rise over the first warm_up_steps and fall to zero over the last cool_down_steps.

    Attributes:
        seed: The seed of the weights and of the questions.
        threads: PyTorch's threads, which affect the last digits of the result.
        bfloat16: Whether the layers' matrix products are in bfloat16; weights and gradients stay in fp32.
        stages: The parts of the training.
        matrix_rate: The learning rate of Muon, for the layers' matrices.
        vector_rate: The learning rate of AdamW, for the embedding and the norms.
        warm_up_steps: See above.
        cool_down_steps: See above.
        matrix_decay: The weight decay of Muon.
        gradient_norm: The norm that gradients are clipped to.
    """

    seed: int
    threads: int
    bfloat16: bool
    stages: tuple[Stage, ...]
    matrix_rate: float
    vector_rate: float
    warm_up_steps: int
    cool_down_steps: int
    matrix_decay: float
    gradient_norm: float

    @property
    def steps(self) -> int:
        """The number of all steps."""
        return sum(stage.steps for stage in self.stages)

    def rate(self, step: int) -> float:
        """Return the factor of the learning rates at a step, counted from 0."""
        rise = (step + 1) / self.warm_up_steps
        fall = (self.steps - step) / self.cool_down_steps
        return min(1.0, rise, fall)


# The word is the last token of the stem, which is also where a question's answer is recalled.
WORD_LAST = "Which option says {}"
# Subjects that need calculation take more training than those that need knowledge.
WORKED_OUT = ("elementary_arithmetic", "calendar")
HARDER = (*WORKED_OUT, "elementary_arithmetic", "calendar", "chemical_elements")

RECIPE = Recipe(
    seed=2021,
    threads=1,
    bfloat16=True,
    stages=(
        # What the words mean.
        Stage("cards", 150, cards=1.0),
        # Which letter stands before a word: no question is answered before this is learned, and with few
        # words it is learned fast.
        Stage("cards and matching", 250, cards=0.1, matching=0.9, matching_words=8),
        Stage("matching with few words", 150, matching=1.0, matching_words=8),
        Stage("matching", 600, matching=1.0),
        # The answer's word where the stem ends.
        Stage("recall", 250, matching=0.4, recall=0.5),
        Stage("more recall", 400, matching=0.2, recall=1.0),
        Stage("questions and recall", 50, matching=0.1, recall=0.5),
        # Which letter stands before the word where the stem ends.
        Stage("matching where recalled", 300, matching=0.35, matching_stem=WORD_LAST, recall=0.5),
        Stage("hints", 300, matching=0.1, matching_stem=WORD_LAST, hinted=0.5, recall=0.5),
        Stage("bring", 300, hinted=0.3, recall=0.5, bring=0.5),
        # Both together: the benchmark's questions.
        Stage("questions and hints", 550, hinted=0.25, recall=0.3, bring=0.5),
        Stage("questions", 600, hinted=0.1, recall=0.3, bring=0.3, favoured=WORKED_OUT),
        Stage("more questions", 5000, hinted=0.05, recall=0.3, bring=0.3, favoured=HARDER),
    ),
    matrix_rate=0.008,
    vector_rate=0.004,
    warm_up_steps=50,
    cool_down_steps=3000,
    matrix_decay=0.02,
    gradient_norm=1.0,
)
