"""Activations of the embedded models as computed by version 0.1.0, kept for comparison.

`python -m tests.model.kept FILE` writes them. They were written at version 0.1.0, before the
forward pass was split into modules, with the weights of the first edition.
"""

import sys
from itertools import pairwise

import torch
from safetensors.torch import save_file
from torch import Tensor

import qwen3lab

LONG = 200
"""Tokens of the long prompt: enough for the loop over experts."""


class KeepByEnding:
    """A tap that keeps hooks with some endings; a prefix is added to their names."""

    def __init__(self, prefix: str, endings: tuple[str, ...]) -> None:
        self.prefix, self.endings = prefix, endings
        self.kept: dict[str, Tensor] = {}

    def __call__(self, name: str, value: Tensor) -> Tensor:
        if self.wants(name):
            self.kept[f"{self.prefix} {name}"] = value.detach().clone().contiguous()
        return value

    def wants(self, name: str) -> bool:
        return name.endswith(self.endings)


@torch.no_grad()
def activations(name: str) -> dict[str, Tensor]:
    """An embedded model's results for a padded batch, long prompts, and decoding with a cache."""
    model = qwen3lab.load(name, revision="v1", device="cpu", dtype="float32").model
    generator = torch.Generator().manual_seed(7)
    vocab = model.config.d_vocab
    batch = torch.randint(vocab, (2, 12), generator=generator)
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[1, :5] = False
    kept: dict[str, Tensor] = {}

    stream = KeepByEnding(f"{name} batch", ("hook_resid_post", "hook_z", "hook_expert_weights"))
    kept[f"{name} batch logits"] = model(batch, mask=mask, tap=stream)
    kept |= stream.kept

    explicit = KeepByEnding(f"{name} explicit", ("hook_pattern", "hook_expert_out", "hook_result"))
    kept[f"{name} explicit logits"] = model(batch[:1, :4], tap=explicit)
    kept |= {key: value for key, value in explicit.kept.items() if "blocks.3." in key}

    long = torch.randint(vocab, (1, LONG), generator=generator)
    kept[f"{name} long logits"] = model(long, last_only=True)
    many = torch.randint(vocab, (12, LONG), generator=generator)
    kept[f"{name} many logits"] = model(many, last_only=True)

    cache = model.new_cache(batch=2, capacity=16)
    for first, end in pairwise((0, 6, 7, 8, 12)):
        piece = model(batch[:, first:end], mask=mask[:, first:end], cache=cache, last_only=True)
        kept[f"{name} cached {first} logits"] = piece
    return kept


def machine() -> dict[str, str]:
    """What rounding depends on: torch's version, the CPU's instruction set, the thread count."""
    return {
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    kept = activations("tiny-moe") | activations("tiny-dense")
    save_file({name: value.contiguous() for name, value in kept.items()}, sys.argv[1], machine())
