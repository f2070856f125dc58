"""Rows of a small corpus, and its counts by numpy from a recording of each text alone."""

from collections import Counter

import numpy as np

ROWS = [
    {"text": "3+4=?", "kind": "sum", "name": "a"},
    {"text": "7*2-1=?", "kind": "product", "name": "b"},
    {"text": "", "kind": "sum", "name": "empty"},
    {"text": "2+2*3=?", "kind": "product", "name": "c"},
    {"text": "9-1=?", "kind": "sum", "name": "d"},
    {"kind": "sum", "name": "absent"},
    {"text": [{"role": "user", "content": "3+2=?"}], "kind": "chat", "name": "e"},
    {"text": "8*8-1+2*3-4*2=?", "kind": "product", "name": "f"},
]
GOOD = [row for row in ROWS if row.get("text")]
WEIGHT_ERROR = 1e-5
"""Of a weight's sum: a batch rounds its products in float32 in another way than a text alone."""


def recorded(lab):
    """A recording of each text that can be run, alone, and its label."""
    return [(lab.record(row["text"]), row["kind"]) for row in GOOD]


def counted(lab):
    """Slots and weights of each layer, expert and label, by numpy."""
    slots, weights = Counter(), Counter()
    for rec, label in recorded(lab):
        experts, applied = rec.routing.experts.numpy(), rec.routing.weights.numpy()
        for at, layer in enumerate(rec.routing.layers):
            flat, heavy = experts[at].ravel(), applied[at].ravel().astype(np.float64)
            for expert in np.unique(flat):
                slots[layer, int(expert), label] += int((flat == expert).sum())
                weights[layer, int(expert), label] += float(heavy[flat == expert].sum())
    return slots, weights


def same_tables(one, other):
    """True if two runs have the same values in every table, whatever the order of the rows."""
    for name in ("rows", "counts", "groups", "co_activation", "transitions", "tokens"):
        tables = [run.table(name).to_table() for run in (one, other)]
        order = [(column, "ascending") for column in tables[0].column_names]
        first, second = (table.sort_by(order).combine_chunks() for table in tables)
        if not first.equals(second):
            return False
    return True
