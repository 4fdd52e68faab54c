"""How full the batches were that the engine ran."""

from __future__ import annotations

from mmlu_client.figures.arithmetic import mean, ratio
from mmlu_client.rundir.record_table import RecordTable


def mixes_prefixes(scored: RecordTable) -> bool:
    """Tell whether the prompts of a request begin with several shared prefixes.

    With reuse a server runs those as several batches, and tells the largest alone.
    """
    names = ("request.id", "subject", "shots", "tokens.shared_prefix")
    prompts = set(zip(*(scored[name].tolist() for name in names), strict=True))
    prefixes = {(request, tokens and (subject, shots, tokens)) for request, subject, shots, tokens in prompts}
    return len(prefixes) > len({request for request, _ in prefixes})


def mean_batch_size(requests: RecordTable) -> float | None:
    """Compute the prompts in a batch that the engine ran.

    A request of r prompts in a batch of b is r/b of that batch.
    """
    prompts, batch = requests["request.prompts"], requests["batch.prompts"]
    known = batch > 0
    return ratio(float(prompts.sum()), float((prompts[known] / batch[known]).sum()))


def merged_share(requests: RecordTable) -> float | None:
    """Compute the share of the requests whose batch held others' prompts too.

    With those, bs is not what the engine ran.
    """
    return mean(requests["batch.prompts"] > requests["request.prompts"]) if requests.knows("batch") else None


def padding_share(scored: RecordTable, requests: RecordTable) -> float | None:
    """Compute the share of padding in the tokens that the engine ran; None where it is not told."""
    if not requests.knows("batch"):
        return None
    padding = float(requests["batch.padding_tokens"].sum())
    return ratio(padding, padding + float(scored["tokens.computed"].sum()))
