"""Held-out texts as rows of a corpus, with labels of the text and of each token, and controls."""

import random
from typing import Any

from qwen3lab.arguments import Count, Seed, checked
from qwen3lab.tiny.world.labelled_texts import texts


@checked
def corpus_rows(tokenizer: Any, *, n: Count, seed: Seed = 1) -> list[dict[str, Any]]:
    """Rows for `qwen3lab.corpus.record`, in random order.

    A row has the token ids in "text", the task family in "family", and in "role" a list with the
    role of each token, such as operand or keyword. "shuffled family" is the family of another row,
    and "shuffled role" has the roles of the text in another order: labels without a meaning, which
    show how large a measure is by chance.

    Args:
        tokenizer: of the model that reads the texts.
        n: number of texts of each family.
        seed: of the texts and the orders.

    Example:
        >>> from qwen3lab import load, tiny
        >>> rows = tiny.corpus_rows(load("tiny-moe").tokenizer, n=2)
        >>> len(rows), len(rows[0]["role"]) == len(rows[0]["text"])
        (12, True)
    """
    labelled, rng = texts(tokenizer, n=n, seed=seed), random.Random(seed)
    rng.shuffle(labelled)
    families = [text.family for text in labelled]
    rng.shuffle(families)
    return [
        {
            "text": text.token_ids,
            "family": text.family,
            "role": (roles := [label.role for label in text.labels]),
            "shuffled family": other,
            "shuffled role": rng.sample(roles, len(roles)),
        }
        for text, other in zip(labelled, families, strict=True)
    ]
