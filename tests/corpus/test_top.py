from dataclasses import replace
from itertools import pairwise

import numpy as np

from qwen3lab.corpus.top import TopExamples
from tests.corpus.routing import LAYERS, N_EXPERTS, random_texts, slots_of

TEXTS = random_texts(9, seed=1)
IDS = {number: routed.token_ids.tolist() for number, (routed, _) in enumerate(TEXTS)}


def examples(n):
    top = TopExamples(n)
    hooks = [f"layer {layer}" for layer in LAYERS]
    for start, end in pairwise((0, 1, 2, 5, 9)):
        texts = [routed for routed, _ in TEXTS[start:end]]
        top.add_routes(hooks, N_EXPERTS, range(start, end), texts)
        top.trim()
    return top.table(IDS, 1).to_pylist()


def test_the_texts_with_the_largest_weight_are_kept_once_each():
    best = {}
    for layer, number, position, expert, weight in slots_of(TEXTS):
        of_text = best.setdefault((f"layer {layer}", expert), {})
        if number not in of_text or weight > of_text[number][0]:
            of_text[number] = (weight, position)
    expected = {
        key: sorted(((s, n, p) for n, (s, p) in texts.items()), key=lambda e: (-e[0], e[1]))[:2]
        for key, texts in best.items()
    }
    found = {}
    for each in examples(2):
        one = (each["score"], each["row"], each["position"])
        found.setdefault((each["hook"], each["unit"]), []).append(one)
    assert found == expected


def test_texts_in_any_order_and_batches_of_any_size_give_the_same_examples():
    texts = [routed for routed, _ in random_texts(60, seed=2)]
    texts = [replace(each, weights=np.round(4 * each.weights) / 4) for each in texts]  # Many ties.
    ids, found = {row: text.token_ids.tolist() for row, text in enumerate(texts)}, []
    for order, size in ((range(60), 60), (range(60), 1), (range(59, -1, -1), 7)):
        top = TopExamples(2)
        for start in range(0, 60, size):
            rows = list(order)[start : start + size]
            top.add_routes(["a", "b", "c"], N_EXPERTS, rows, [texts[row] for row in rows])
            top.trim()
        found.append(top.table(ids, 1).to_pylist())
    assert found[0] == found[1] == found[2]


def test_an_example_has_the_tokens_around_its_own():
    for each in examples(3):
        ids, at = IDS[each["row"]], each["position"]
        assert each["token_ids"] == ids[max(at - 1, 0) : at + 2]
        assert each["token_ids"][each["token"]] == ids[at]


def test_of_equal_values_the_first_text_wins():
    top = TopExamples(1)
    for row in (3, 5):
        top.add_values("hook", row, np.ones((2, 2), np.float32))
    found = top.table({3: [1, 2], 5: [1, 2]}, 0).to_pylist()
    assert [(each["unit"], each["row"], each["position"]) for each in found] == [
        (0, 3, 0),
        (1, 3, 0),
    ]


def test_no_text_gives_an_empty_table():
    assert TopExamples(3).table({}, 2).num_rows == 0
