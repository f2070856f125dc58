"""Small random models for patching, and runs of them by hand."""

import torch

from qwen3lab.lab import Lab
from qwen3lab.model.transformer import Qwen3
from tests.reference import NO_EXPERTS, small_config

CLEAN = [3, 14, 15, 9, 2, 6]
CORRUPT = [3, 14, 22, 9, 2, 8]


def small_lab(tokenizer, *, experts, **changes):
    """A lab of random weights that are large enough for each part to matter."""
    config = small_config(d_vocab=1536, **(changes if experts else NO_EXPERTS | changes))
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6) if parameter.ndim > 1 else parameter.add_(0.3)
    return Lab(model.eval(), tokenizer, "small")


def read_with(lab, ids, edits, metric):
    """The metric of a recorded run with edits."""
    logits = lab.record(ids, edits=edits).logits
    return float(metric.resolve(lab).read(logits[None])[0])
