"""The embedded models' shapes and how they are trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from qwen3lab.config.qwen3_config import Qwen3Config, Rope
from qwen3lab.tiny.world.documents import (
    COPYING,
    DIETS,
    TURNING,
    CoursePart,
    Diet,
    Opening,
    with_shares,
)
from qwen3lab.tiny.world.tokenizer import N_CTX, N_VOCAB


@dataclass(frozen=True)
class Later:
    """A second course: on from the weights as they ship, with an optimiser that begins anew.

    Attributes:
        begin: its first step.
        diets: as in a recipe.
        learning_rate: at its highest; it falls to the end of the training.
        warmup: steps until then.
    """

    begin: int
    diets: Mapping[str, Diet]
    learning_rate: float
    warmup: int = 100


@dataclass(frozen=True)
class Recipe:
    """All that decides what comes out of a training run, the machine aside.

    Attributes:
        name: of the model.
        config: its sizes.
        seed: of the weights and the documents.
        diets: the families that it learns from, and how often it meets each.
        steps: of the optimiser.
        opening: steps in which the model meets only tallies and sequences that repeat, until
            single steps are known and its heads copy; over half as many again the world comes
            in. (From the world alone both take far longer to find.)
        course: of the opening.
        batch_tokens: tokens in a batch, about.
        row_tokens: tokens in a row, into which documents are packed.
        learning_rate: at its highest, after the warm-up.
        warmup: steps until then.
        weight_decay: of the matrices.
        muon: whether Muon takes the place of AdamW for the matrices within the layers,
            routers aside.
        balance: weight of the load-balancing loss.
        half_way: weight of a second loss, read from the residual stream after half of the layers.
            What is easy is then ready there, for the other half to build upon: steps in the
            head are learned several times as fast.
        half_way_steps: the first step in which it counts, and the first in which it does no more.
            (Where it counted from the start, induction came later; one seed was tried.)
        later: a second course, from one of the steps on.
        early: steps whose weights are kept to be shown beside the last.
    """

    name: str
    config: Qwen3Config
    seed: int = 0
    diets: Mapping[str, Diet] = field(default_factory=lambda: DIETS)
    steps: int = 8_500
    opening: int = 1_000
    course: Opening = COPYING
    batch_tokens: int = 2560
    row_tokens: int = 256
    learning_rate: float = 2e-3
    warmup: int = 200
    weight_decay: float = 0.05
    muon: bool = False
    balance: float = 0.01
    half_way: float = 0.3
    half_way_steps: tuple[int, int] = (1_000, 2_500)
    later: Later | None = None
    early: tuple[int, ...] = ()

    @property
    def families(self) -> tuple[str, ...]:
        """The families that it learns from."""
        return tuple(self.diets)


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

TINY_DENSE = replace(
    TINY_MOE, d_mlp=256, n_experts=0, n_experts_per_token=0, d_expert=0, moe_layers=()
)

MICRO_MOE = Recipe(
    "micro-moe",
    replace(TINY_MOE, n_layers=3, n_experts=8, n_experts_per_token=2, moe_layers=(0, 1, 2)),
    diets={name: DIETS[name] for name in ("arithmetic", "stories", "lists")},
    steps=100_000,
    opening=450,
    # Sequences that come back from their end: a previous-token and a duplicate-token head answer
    # these within 400 steps (seeds 0 and 1). An induction head would take longer than there is.
    course=(CoursePart(1.5, {"tally": 0.12, "backwards": 0.58, "turned": 0.3}),),
    batch_tokens=1024,
    row_tokens=128,
    learning_rate=4e-3,
    warmup=50,
    half_way=0.0,
    muon=True,
)
"""Trained by the clock, in a few minutes, to be watched."""

# What was weak after the first course: one swap at once, programs, questions on stories. That was
# learned late, at a learning rate that had fallen already.
REVISION = Later(
    begin=8_500,
    diets=with_shares(arithmetic=0.25, swaps=0.38, code=0.15, stories=0.1, lists=0.12),
    learning_rate=1e-3,
)

# "marked" makes the model look a value up where it is about to write it. Without these it does so
# a token early in English lists, where a blank stands between word and value.
EXERCISED = replace(
    DIETS["lists"],
    kinds={
        "look-up": 0.3,
        "marked": 0.14,
        "repeat": 0.2,
        "backwards": 0.16,
        "turned": 0.14,
        "pairs": 0.06,
    },
)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("tiny-moe", TINY_MOE, steps=11_500, later=REVISION),
        # With Muon in fewer steps; of two openings, each with a seed of its own, the one whose
        # look-up head came with its induction head.
        Recipe(
            "tiny-dense",
            TINY_DENSE,
            seed=2,
            diets={**DIETS, "lists": EXERCISED},
            steps=7_000,
            course=TURNING,
            muon=True,
            early=(250, 500, 750, 1_000, 2_000),
        ),
    )
}
