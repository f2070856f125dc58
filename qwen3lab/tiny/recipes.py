"""The embedded models' shapes and how they are trained."""

from dataclasses import dataclass

from qwen3lab.config import Qwen3Config, Rope
from qwen3lab.tiny.tokenizer import N_CTX, N_VOCAB


@dataclass(frozen=True)
class Recipe:
    """All that decides what comes out of a training run, the machine aside.

    Attributes:
        name: of the model.
        config: its sizes.
        seed: of the weights and the documents.
        steps: of the optimiser.
        rows: sequences in a batch.
        row_tokens: tokens in a sequence.
        learning_rate: at its highest, after the warm-up.
        warmup: steps until then.
        weight_decay: of the matrices.
        balance: weight of the load-balancing loss.
        max_steps: steps of the longest problem.
    """

    name: str
    config: Qwen3Config
    seed: int = 0
    steps: int = 6500
    rows: int = 10
    row_tokens: int = 256
    learning_rate: float = 2e-3
    warmup: int = 200
    weight_decay: float = 0.05
    balance: float = 0.01
    max_steps: int = 12


TINY_MOE = Qwen3Config(
    d_model=128,
    n_layers=6,
    n_heads=4,
    n_kv_heads=2,
    d_head=32,
    d_mlp=384,
    d_vocab=N_VOCAB,
    n_ctx=N_CTX,
    rope=Rope(theta=10_000.0),
    tied_embeddings=True,
    n_experts=16,
    n_experts_per_token=4,
    d_expert=64,
    moe_layers=tuple(range(6)),
)

RECIPES = {"tiny-moe": Recipe("tiny-moe", TINY_MOE)}
