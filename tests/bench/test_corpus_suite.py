"""The benchmark of recording a corpus, on the embedded mixture of experts."""

import pytest

from qwen3lab import bench
from qwen3lab.bench.suites import corpus as suite
from qwen3lab.errors import BenchError


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(suite, "MIN_TOKENS", 300)
    monkeypatch.setattr(suite, "in_fresh_process", lambda job, *arguments: 3 * 2**20)


def test_counts_stand_beside_a_bare_loop_with_bytes_and_memory(short, tiny_lab):
    plan = bench.BenchPlan(model="tiny-moe", repeats=1, tokens=(5, 300, 400))
    (report,) = bench.run_suites(plan, ["corpus"], progress=False)
    assert [(row.case, row.tokens, row.unit) for row in report.rows] == [
        (case, n, unit)
        for n in (300, 400)
        for case, unit in (
            ("counts of a corpus", "tokens/s"),
            ("bytes written", "MiB"),
            ("memory", "MiB"),
        )
    ]
    assert list(report.rows[0].measured) == ["qwen3lab", suite.BARE]
    assert report.rows[2].measured == {"qwen3lab": (3.0,)}
    written, said = report.rows[1].measured.values()
    assert 0 < written[0] < said[0]


def test_the_texts_have_the_tokens_that_were_asked_for(tiny_lab):
    texts = suite.random_texts(tiny_lab, 1000)
    assert sum(map(len, texts)) == 1000
    assert all(0 <= token < tiny_lab.config.d_vocab for ids in texts for token in ids)


def test_a_corpus_that_counts_other_slots_is_refused(short, tiny_lab, monkeypatch):
    texts = suite.random_texts(tiny_lab, 600)
    record = suite._record
    monkeypatch.setattr(suite, "_record", lambda lab, given, folder: record(lab, texts[:1], folder))
    with pytest.raises(BenchError, match=r"slots are counted, and the texts have 14,400"):
        suite.bytes_written(tiny_lab, texts)


def test_what_has_no_routing_or_no_tokenizer_is_refused():
    with pytest.raises(BenchError, match="a corpus needs a tokenizer"):
        suite.run_corpus(bench.BenchPlan(), progress=False)
    with pytest.raises(BenchError, match="tiny-dense is dense"):
        suite.run_corpus(bench.BenchPlan(model="tiny-dense"), progress=False)
