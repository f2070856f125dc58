"""The atlas of a run, against counts of recordings by plain loops."""

import pytest

from qwen3lab import corpus
from qwen3lab.analysis import specialisation
from qwen3lab.errors import CorpusError
from tests.corpus.texts import GOOD

K = 3


def labelled(lab):
    """Rows with the parity of each token as its label."""
    rows = [{"text": lab.token_ids(row["text"]), "kind": row["kind"]} for row in GOOD]
    return [row | {"parity": [["even", "odd"][t % 2] for t in row["text"]]} for row in rows]


@pytest.fixture(scope="module")
def run(tiny_lab, tmp_path_factory):
    options = {"label": "kind", "token_label": "parity", "cross": True, "part_rows": 2}
    out = tmp_path_factory.mktemp("atlas") / "run"
    kept = {"keep": ("counts", "top"), "progress": False}
    return corpus.record(labelled(tiny_lab), model=tiny_lab, out=out, **options, **kept)


@pytest.fixture(scope="module")
def chosen(tiny_lab):
    """For each token of the rows: its id, labels, and the experts of each layer."""
    found = []
    for row in labelled(tiny_lab):
        experts = tiny_lab.record(row["text"]).routing.experts
        for at, (token, parity) in enumerate(zip(row["text"], row["parity"], strict=True)):
            own = [set(layer[at].tolist()) for layer in experts]
            found.append((token, row["kind"], parity, own))
    return found


def test_an_entry_has_the_shares_and_labels_of_its_tokens(run, chosen):
    atlas = corpus.atlas(run, n_labels=9)
    assert (len(atlas.experts), atlas.columns) == (6 * 16, ("kind", "parity"))
    for (layer, expert), entry in list(atlas.experts.items())[::7]:
        own = [each for each in chosen if expert in each[3][layer]]
        assert entry.share == pytest.approx(len(own) / len(chosen))
        for each in entry.labels:
            place = 1 if each.column == "kind" else 2
            of_label = [token for token in chosen if token[place] == each.label]
            both = [token for token in of_label if expert in token[3][layer]]
            assert each.share == pytest.approx(len(both) / len(of_label))
            assert each.npmi > 0


def test_neighbours_and_tokens_are_those_of_plain_loops(run, chosen):
    atlas = corpus.atlas(run, n_neighbours=K)
    for (layer, expert), entry in list(atlas.experts.items())[::11]:
        own = [each for each in chosen if expert in each[3][layer]]
        for near, at in ((entry.together, layer), (entry.following, layer + 1)):
            assert len(near) <= K and (at < 6 or not near)
            for each in near:
                assert (each.layer, each.expert) != (layer, expert)
                both = sum(each.expert in token[3][at] for token in own)
                usual = sum(each.expert in token[3][at] for token in chosen) / len(chosen)
                assert each.share == pytest.approx(both / len(own))
                assert each.above == pytest.approx(both / len(own) - usual, abs=1e-6)
        texts = {run.vocabulary[token] for token, *_ in own}
        assert {text for text, _ in entry.tokens} <= texts
        assert bool(entry.tokens) == bool(own)


def test_examples_are_the_best_of_the_run(run):
    atlas = corpus.atlas(run, columns=["kind"], n_examples=2)
    best = run.top("blocks.3.mlp.hook_expert_weights", 5)
    shown = atlas[3, 5].examples
    assert [(each.score, each.row, each.token) for each in shown] == [
        (row.score, row.row, row.token) for row in best.head(2).itertuples()
    ]
    assert {each.column for each in atlas[3, 5].labels} <= {"kind"}


def test_topic_and_type_are_those_of_the_crossed_counts(run, chosen):
    found = corpus.topic_and_type(run, topic="kind", kind="parity")
    names, slots, tokens = corpus.slots_of(run, "kind")
    for row, name in enumerate(names):
        assert int(tokens[row]) == sum(kind == name for _, kind, _, _ in chosen)
    for layer in (0, 5):
        value = specialisation.mutual_information(slots[layer])
        assert float(found.topic[layer]) == pytest.approx(value, rel=1e-5)
    within = 0.0
    for parity in ("even", "odd"):
        some = [each for each in chosen if each[2] == parity]
        counts = [[sum(e in t[3][0] for t in some if t[1] == n) for e in range(16)] for n in names]
        table = slots.new_tensor(counts)
        within += len(some) / len(chosen) * specialisation.mutual_information(table)
    assert float(found.topic_within_type[0]) == pytest.approx(within, rel=1e-5)


def test_columns_that_were_not_counted_are_refused(run, tiny_lab, tmp_path):
    with pytest.raises(CorpusError, match="no column 'topic': the counts are grouped by kind, par"):
        corpus.atlas(run, columns=["topic"])
    bare = corpus.record([{"text": "3+4=?"}], model=tiny_lab, out=tmp_path / "bare", progress=False)
    with pytest.raises(CorpusError, match="grouped by none; record the corpus with label="):
        corpus.slots_of(bare, "kind")
    assert corpus.atlas(bare)[0, 0].labels == ()
