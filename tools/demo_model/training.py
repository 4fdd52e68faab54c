"""A training that can be stopped at any time and continues from its last saved state."""

from __future__ import annotations

import hashlib
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from tools.demo_model.architecture import new_model
from tools.demo_model.batch import Loss, backward, batches
from tools.demo_model.lessons import Lessons
from tools.demo_model.recipe import Recipe


class Training:
    """The state of a training.

    Attributes:
        model: A LlamaForCausalLM.
        losses: The loss of each step that was done.
    """

    def __init__(self, recipe: Recipe, lessons: Lessons, tokenizer: Tokenizer) -> None:
        """Begin a training with this recipe."""
        torch.use_deterministic_algorithms(True)
        torch.set_num_threads(recipe.threads)
        torch.manual_seed(recipe.seed)
        self._recipe, self._lessons, self._tokenizer = recipe, lessons, tokenizer
        self.model: Any = new_model()
        # With products in bfloat16 this is faster than the fused attention.
        self.model.set_attn_implementation("eager")
        self.losses: list[Loss] = []
        self._optimizers = _optimizers(self.model, recipe)
        self._rates = [[group["lr"] for group in each.param_groups] for each in self._optimizers]

    @property
    def step(self) -> int:
        """The number of steps that were done."""
        return len(self.losses)

    def advance(self) -> Loss:
        """Do one step, and return its loss."""
        self._set_rates(self._recipe.rate(self.step))
        parts = list(batches(self._tokenizer, self._lessons.sequences(self.step)))
        stage = self._lessons.stage(self.step)
        loss = backward(self.model, parts, stage.recall, stage.bring, self._recipe.bfloat16)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._recipe.gradient_norm)
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.losses.append(loss)
        return loss

    def save(self, path: Path) -> None:
        """Write the state; a program that is killed meanwhile leaves the state before."""
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        state = {
            "history": self._history(self.step),
            "model": self.model.state_dict(),
            "optimizers": [each.state_dict() for each in self._optimizers],
            "losses": [astuple(loss) for loss in self.losses],
        }
        torch.save(state, new)
        new.replace(path)

    def load(self, path: Path) -> None:
        """Continue from a saved state.

        Raises:
            ValueError: The state was made with another recipe.
        """
        state = torch.load(path, weights_only=True)
        if state["history"] != self._history(len(state["losses"])):
            raise ValueError(f"{path} was made with another recipe: remove it to start anew")
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.losses = [Loss(*values) for values in state["losses"]]

    def _history(self, steps: int) -> str:
        """Return a hash of everything that determined the first steps.

        A recipe that differs only in later steps has the same.
        """
        fixed = replace(self._recipe, stages=(), warm_up_steps=0, cool_down_steps=0)
        stages = [replace(self._lessons.stage(step), steps=0) for step in range(steps)]
        past = [(stage, self._recipe.rate(step)) for step, stage in enumerate(stages)]
        return hashlib.sha256(repr((fixed, past)).encode()).hexdigest()

    def _set_rates(self, share: float) -> None:
        for optimizer, rates in zip(self._optimizers, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * share


def _optimizers(model: Any, recipe: Recipe) -> tuple[Any, Any]:
    """Return Muon for the layers' matrices, and AdamW for the embedding and the norms.

    Muon: Jordan et al. 2024. With it the model learned to match options and letters after about 450 steps. A
    run with AdamW alone was stopped after 300 steps, too early to compare the two.
    """
    named = list(model.named_parameters())
    matrices = [tensor for name, tensor in named if tensor.ndim == 2 and "embed" not in name]
    vectors = [tensor for name, tensor in named if tensor.ndim == 1 or "embed" in name]
    muon = torch.optim.Muon(
        matrices, lr=recipe.matrix_rate, weight_decay=recipe.matrix_decay, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(vectors, lr=recipe.vector_rate, betas=(0.9, 0.98), weight_decay=0.0)
    return muon, adamw
