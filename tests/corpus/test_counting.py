from collections import Counter

import numpy as np
import pytest

from qwen3lab.corpus import route_sums
from qwen3lab.corpus.counting import WEIGHT_UNIT, Counts, Routed, routes_table, smallest_unsigned
from tests.corpus.routing import (
    LAYERS,
    N_EXPERTS,
    pairs_of,
    random_texts,
    rows,
    slots_of,
)

TEXTS = random_texts(7)
COLUMNS = ("kind", "number")


def tables_of(*batches, columns=COLUMNS):
    counts = Counts(LAYERS, N_EXPERTS, columns)
    for batch in batches:
        counts.add(batch)
    return counts.tables()


def test_slots_and_weights_are_those_of_plain_loops():
    slots, units = Counter(), Counter()
    for layer, number, _, expert, weight in slots_of(TEXTS):
        for column, label in zip(COLUMNS, TEXTS[number][1], strict=True):
            slots[layer, column, label, expert] += 1
            units[layer, column, label, expert] += round(weight / WEIGHT_UNIT)
    table = tables_of(TEXTS[:2], TEXTS[2:])["counts"]
    assert rows(table, "layer", "column", "label", "expert") == slots
    found = {
        (each["layer"], each["column"], each["label"], each["expert"]): each["weight_units"]
        for each in table.to_pylist()
    }
    assert found == units


def test_pairs_and_tokens_are_those_of_plain_loops():
    tables = tables_of(TEXTS[:3], TEXTS[3:])
    together = rows(tables["co_activation"], "layer", "expert", "other")
    assert together == pairs_of(TEXTS, later=False)
    following = rows(tables["transitions"], "layer", "expert", "next_expert")
    assert following == pairs_of(TEXTS, later=True)
    words = Counter(
        (layer, expert, int(TEXTS[number][0].token_ids[position]))
        for layer, number, position, expert, _ in slots_of(TEXTS)
    )
    assert rows(tables["tokens"], "layer", "expert", "token_id") == words


def test_sums_of_pieces_of_any_size_are_those_of_all_texts_at_once(monkeypatch):
    whole = tables_of(TEXTS)
    for name, value in (
        ("MAX_PENDING_TOKENS", 3),
        ("MAX_PENDING_KEYS", 4),
        ("PAIRED_TOKENS", 2),
        ("MAX_CELLS", 2 * (N_EXPERTS + 1)),
    ):
        monkeypatch.setattr(route_sums, name, value)
    pieces = tables_of(*([each] for each in TEXTS))
    for name in ("co_activation", "transitions", "tokens"):
        assert pieces[name].equals(whole[name]), name


def test_the_order_of_the_texts_does_not_change_a_bit():
    one = tables_of(TEXTS)
    other = tables_of(TEXTS[::-1][:4], TEXTS[::-1][4:])
    for name, table in one.items():
        keys = [each for each in table.column_names if each not in ("slots", "weight_units")]
        order = [(key, "ascending") for key in keys]
        assert table.sort_by(order).equals(other[name].sort_by(order)), name


def test_tokens_of_each_label_are_counted_once():
    groups = tables_of(TEXTS)["groups"].to_pylist()
    expected = Counter()
    for routed, labels in TEXTS:
        for column, label in zip(COLUMNS, labels, strict=True):
            expected[column, label] += len(routed.token_ids)
    assert {(each["column"], each["label"]): each["tokens"] for each in groups} == expected


def test_without_labels_all_tokens_are_one_group():
    unlabelled = [(routed, ()) for routed, _ in TEXTS]
    tables = tables_of(unlabelled, columns=())
    assert {each["label"] for each in tables["counts"].to_pylist()} == {""}
    (group,) = tables["groups"].to_pylist()
    assert group["tokens"] == sum(len(routed.token_ids) for routed, _ in TEXTS)


def test_tokens_without_a_route_are_not_counted():
    routed = TEXTS[0][0]
    experts = routed.experts.copy()
    experts[:, -1] = -1
    partial = Routed(routed.token_ids, experts, routed.weights)
    assert partial.n_routed == routed.n_routed - 1
    tables = tables_of([(partial, ("x", "0"))])
    slots = sum(each["slots"] for each in tables["counts"].to_pylist())
    assert slots == 2 * len(LAYERS) * 2 * partial.n_routed  # Two columns, two experts a token.
    assert tables["groups"].to_pylist()[0]["tokens"] == partial.n_routed
    together = rows(tables["co_activation"], "layer", "expert", "other")
    assert together == pairs_of([(partial, ())], later=False)


def test_routes_are_stored_in_the_smallest_unsigned_type():
    texts = [routed for routed, _ in TEXTS[:2]]
    table = routes_table([4, 9], texts, LAYERS, N_EXPERTS)
    assert str(table.schema.field("experts.5").type) == "fixed_size_list<item: uint8>[2]"
    joined = np.concatenate([each.experts[2] for each in texts])
    assert table["experts.5"].to_pylist() == joined.tolist()
    weights = np.concatenate([each.weights[1] for each in texts])
    assert table["weights.2"].to_pylist() == weights.tolist()
    assert table["row"].to_pylist() == [
        row for row, each in zip((4, 9), texts, strict=True) for _ in each.token_ids
    ]


@pytest.mark.parametrize(("n", "name"), [(128, "uint8"), (256, "uint8"), (257, "uint16")])
def test_256_experts_still_fit_into_a_byte(n, name):
    assert smallest_unsigned(n) == np.dtype(name)


def test_a_token_without_a_route_is_null_in_the_table():
    routed = TEXTS[0][0]
    experts = routed.experts.copy()
    experts[:, 0] = -1
    table = routes_table([0], [Routed(routed.token_ids, experts, None)], LAYERS, N_EXPERTS)
    assert table["experts.0"].to_pylist()[0] is None
    assert table["experts.0"].to_pylist()[1:] == routed.experts[0, 1:].tolist()
    assert "weights.0" not in table.column_names
