"""Random routing, and its counts by plain loops."""

from collections import Counter
from itertools import pairwise

import numpy as np

from qwen3lab.corpus.counting import Routed

LAYERS, N_EXPERTS, K, N_WORDS = (0, 2, 5), 5, 2, 7


def random_texts(n: int, seed: int = 0) -> list[tuple[Routed, tuple[str, str]]]:
    """Texts of 1 to 8 tokens with experts, weights and two labels each."""
    rng = np.random.default_rng(seed)
    return [(one_text(rng), ("xy"[number % 2], str(number % 3))) for number in range(n)]


def one_text(rng: np.random.Generator) -> Routed:
    n = int(rng.integers(1, 9))
    experts = [[rng.permutation(N_EXPERTS)[:K] for _ in range(n)] for _ in LAYERS]
    weights = rng.random((len(LAYERS), n, K)).astype(np.float32)
    return Routed(rng.integers(0, N_WORDS, n), np.array(experts), weights)


def slots_of(texts):
    """Every slot: layer number, text number, position, expert, weight."""
    for number, (routed, _) in enumerate(texts):
        for at, layer in enumerate(LAYERS):
            for position in range(len(routed.token_ids)):
                for rank in range(K):
                    expert = int(routed.experts[at, position, rank])
                    if expert >= 0:
                        weight = float(routed.weights[at, position, rank])
                        yield layer, number, position, expert, weight


def chosen_of(texts) -> dict[tuple[int, int, int], set[int]]:
    """The experts of each text, position and layer."""
    found: dict[tuple[int, int, int], set[int]] = {}
    for layer, number, position, expert, _ in slots_of(texts):
        found.setdefault((number, position, layer), set()).add(expert)
    return found


def pairs_of(texts, *, later: bool) -> Counter:
    """Tokens of each layer and pair of experts: of the layer, or of it and the next one."""
    chosen, found = chosen_of(texts), Counter()
    following = dict(pairwise(LAYERS))
    for (number, position, layer), experts in chosen.items():
        other = following.get(layer) if later else layer
        for one in experts if other is not None else ():
            for two in chosen.get((number, position, other), ()):
                found[layer, one, two] += 1
    return found


def rows(table, *names: str) -> dict:
    """A table's slots by the values of its other columns."""
    return {tuple(each[name] for name in names): each["slots"] for each in table.to_pylist()}
