"""transformers in fp32 on the tests' checkpoints, on a GPU where PyTorch sees one.

It runs alone, and needs torch, transformers and numpy.

    python reference.py PROMPTS.npz OUT CHECKPOINT …

Writes OUT/<checkpoint's name>.npz: for each prompt the log-probabilities of the token after it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def load(folder: Path) -> Any:
    # transformers knows no Aquila; its tensors are Llama's.
    family = json.loads((folder / "config.json").read_text())["model_type"]
    loader = LlamaForCausalLM if family == "aquila" else AutoModelForCausalLM
    model = loader.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="eager")
    return model.float().eval().to(DEVICE)


def logprobs(model: Any, prompt: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        logits = model(torch.from_numpy(prompt).long()[None].to(DEVICE), use_cache=False).logits[0, -1]
        result: np.ndarray[Any, Any] = logits.float().log_softmax(-1).cpu().numpy()
    return result


def main(prompts: Path, out: Path, folders: list[Path]) -> None:
    with np.load(prompts) as arrays:
        tokens = [arrays[name] for name in arrays.files]
    for folder in folders:
        model = load(folder)
        results: dict[str, Any] = {
            str(number): logprobs(model, prompt) for number, prompt in enumerate(tokens)
        }
        np.savez(out / f"{folder.name}.npz", **results)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(argument) for argument in sys.argv[3:]])
