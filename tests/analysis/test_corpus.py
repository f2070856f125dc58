import json
import math
import signal

import pytest
import torch

from qwen3lab.analysis.corpus import RoutingCorpus
from qwen3lab.analysis.routing import layer_loads
from qwen3lab.errors import CorpusError
from qwen3lab.storage.checked_tensors import open_tensors, save_checked
from tests.fake_lab import DENSE, MOE, record

ONE = record(MOE, ["a", "b", "c", "d"], {})
OTHER = record(MOE, ["e", "f", "g"], {})


@pytest.fixture
def corpus():
    corpus = RoutingCorpus(MOE)
    corpus.add(ONE, ["x", "y", "x", "y"])
    corpus.add(OTHER, "z")
    return corpus


def test_slots_and_weights_are_summed_in_their_group(corpus):
    assert corpus.groups == ["x", "y", "z"]
    assert corpus.tokens.tolist() == [2, 2, 3]
    routing = ONE.routing
    for layer in range(2):
        slots, weights = torch.zeros(6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
        for token in (0, 2):
            for expert, weight in zip(
                routing.experts[layer, token], routing.weights[layer, token], strict=True
            ):
                slots[expert] += 1
                weights[expert] += weight
        assert corpus.slots[layer, 0].equal(slots)
        torch.testing.assert_close(corpus.weights[layer, 0], weights)
    assert (corpus.slots.sum(dim=-1) == 2 * corpus.tokens).all()


def test_the_load_of_a_group_equals_that_of_its_recording(corpus):
    torch.testing.assert_close(corpus.load("z"), layer_loads(OTHER))
    torch.testing.assert_close(corpus.load().sum(dim=1), torch.ones(2))


def test_router_entropies_are_summed_by_group(corpus):
    logits = OTHER.routing.logits.double()
    p = logits.softmax(-1)
    expected = -(p * p.log()).sum(-1).sum(-1)
    torch.testing.assert_close(corpus.entropy[:, 2], expected, atol=1e-5, rtol=1e-5)


def test_two_merged_corpora_equal_one_corpus(corpus, tmp_path):
    first, second = RoutingCorpus(MOE), RoutingCorpus(MOE)
    second.add(ONE, ["x", "y", "x", "y"])
    first.add(OTHER, "z")
    first.save(tmp_path / "counts.safetensors")
    merged = RoutingCorpus.open(tmp_path / "counts.safetensors")
    merged.merge(second)
    assert sorted(merged.groups) == corpus.groups
    for group in corpus.groups:
        torch.testing.assert_close(merged.load(group), corpus.load(group))
    assert int(merged.tokens.sum()) == 7


def test_the_corpus_table_has_one_row_per_layer_group_and_expert(corpus):
    table = corpus.to_pandas()
    assert len(table) == 2 * 3 * 6
    assert set(table.layer) == set(MOE.moe_layers)
    shares = table.groupby(["layer", "group"]).share.sum()
    assert shares.tolist() == pytest.approx([2.0] * 6)
    row = table[(table.layer == 3) & (table.group == "z") & (table.slots > 0)].iloc[0]
    assert row.share == row.slots / 3
    slots, chosen = corpus.slots[1], int(row.expert)
    joint = float(slots[2, chosen] / slots.sum())
    alone = float(slots[2].sum() * slots[:, chosen].sum() / slots.sum() ** 2)
    assert row.npmi == pytest.approx(math.log(joint / alone) / -math.log(joint), abs=1e-6)


def test_the_size_of_a_corpus_does_not_depend_on_the_number_of_tokens(corpus):
    before = sum(value.nbytes for value in (corpus.slots, corpus.weights, corpus.entropy))
    for _ in range(50):
        corpus.add(ONE, "x")
    after = sum(value.nbytes for value in (corpus.slots, corpus.weights, corpus.entropy))
    assert after == before


def test_a_corpus_of_a_dense_model_is_refused():
    with pytest.raises(CorpusError, match="this model is dense"):
        RoutingCorpus(DENSE)


def test_invalid_recordings_and_groups_are_refused_without_changing_the_counts(corpus):
    before = corpus.slots.clone()
    with pytest.raises(CorpusError, match="2 labels for 4 tokens"):
        corpus.add(ONE, ["x", "y"])
    with pytest.raises(CorpusError, match="a model with another configuration"):
        corpus.add(record(DENSE, ["a"], {}), "x")
    with pytest.raises(CorpusError, match="no group 'w': the groups are x, y, z"):
        corpus.load("w")
    with pytest.raises(CorpusError, match="nothing was counted yet"):
        RoutingCorpus(MOE).load()
    assert corpus.slots.equal(before)


def test_a_file_that_holds_no_counts_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    ONE.save(path)
    for wrong in (path, tmp_path / "absent"):
        with pytest.raises(CorpusError, match="holds no counts"):
            RoutingCorpus.open(wrong)


def rewritten(path, sums=None, **changes):
    """Writes a file of counts again, with changes and checksums that fit."""
    with open_tensors(path) as file:
        about = json.loads(file.metadata["routing_corpus"]) | changes
        tensors = {name: file.read(name) for name in file.stored} | (sums or {})
    save_checked(tensors, path, {"routing_corpus": json.dumps(about)})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"groups": "xyz"}, "its groups are not a list of texts"),
        ({"groups": [1, 2, 3]}, "its groups are not a list of texts"),
        ({"groups": ["x", "x", "y"]}, "has shape"),
        ({"format": [1]}, "format"),
        ({"config": None}, "fields is None"),
        ({"sums": {"slots": torch.zeros(2, 2)}}, "slots has shape"),
        ({"sums": {"tokens": torch.tensor([1, -1, 1])}}, "tokens holds a value that is no count"),
        ({"sums": {"tokens": torch.tensor([1.0, 1.0, 1.0])}}, "dtype torch.float32"),
    ],
)
def test_damaged_counts_are_refused(tmp_path, changes, reason):
    corpus, path = RoutingCorpus(MOE), tmp_path / "counts"
    corpus.add(ONE, [*"xyzz"])
    corpus.save(path)
    rewritten(path, **changes)
    with pytest.raises(CorpusError, match=f"counts holds no counts .*{reason}"):
        RoutingCorpus.open(path)


def test_a_count_that_changed_in_the_file_is_refused(tmp_path):
    corpus, path = RoutingCorpus(MOE), tmp_path / "counts"
    corpus.add(ONE, [*"xyzz"])
    corpus.save(path)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CorpusError, match="has other values than were saved"):
        RoutingCorpus.open(path)


@pytest.mark.parametrize("step", ["router_entropy", "weights_by_expert", "chosen"])
def test_an_interrupt_before_the_sums_change_adds_nothing(corpus, monkeypatch, step):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    before = sums_of(corpus)
    monkeypatch.setattr(f"qwen3lab.analysis.corpus.{step}", interrupt)
    with pytest.raises(KeyboardInterrupt):
        corpus.add(ONE, "new")
    assert sums_of(corpus) == before


@pytest.mark.parametrize("merged", [False, True])
def test_an_interrupt_while_the_sums_change_comes_afterwards(corpus, monkeypatch, merged):
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    whole, found = RoutingCorpus(MOE), RoutingCorpus(MOE)
    whole.merge(corpus) if merged else whole.add(ONE, "x")
    rows = found._rows

    def interrupted(labels):
        signal.raise_signal(signal.SIGINT)
        return rows(labels)

    monkeypatch.setattr(found, "_rows", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            found.merge(corpus) if merged else found.add(ONE, "x")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert sums_of(found) == sums_of(whole)


def sums_of(corpus):
    sums = (corpus.slots, corpus.weights, corpus.entropy, corpus.tokens)
    return [list(corpus.groups), *(each.tolist() for each in sums)]
