"""The benchmark of recording a corpus, on the embedded mixture of experts."""

import os

import pytest

from qwen3lab import bench, corpus
from qwen3lab.bench.suites import corpus as suite, corpus_on_ray
from qwen3lab.errors import BenchError


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(suite, "MIN_TOKENS", 300)
    monkeypatch.setattr(suite, "in_fresh_process", lambda job, *arguments: 3 * 2**20)
    monkeypatch.setattr(suite, "has_ray", lambda: False)


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


def test_of_a_long_corpus_the_memory_alone_is_measured(short, tiny_lab, monkeypatch):
    monkeypatch.setattr(suite, "MAX_TIMED_TOKENS", 300)
    plan = bench.BenchPlan(model="tiny-moe", repeats=1, tokens=(300, 301))
    (report,) = bench.run_suites(plan, ["corpus"], progress=False)
    assert [(row.case, row.tokens) for row in report.rows] == [
        ("counts of a corpus", 300),
        ("bytes written", 300),
        ("memory", 300),
        ("memory", 301),
    ]


def test_two_workers_stand_beside_one_where_ray_is_installed(short, tiny_lab, monkeypatch):
    def rate(plan, texts, workers):
        assert sum(map(len, texts)) == 300
        return 1000.0 * workers

    monkeypatch.setattr(suite, "has_ray", lambda: True)
    monkeypatch.setattr(corpus_on_ray, "_rate", rate)
    plan = bench.BenchPlan(model="tiny-moe", repeats=1, tokens=(300,))
    (report,) = bench.run_suites(plan, ["corpus"], progress=False)
    assert report.rows[-1].case == "counts on Ray"
    assert report.rows[-1].ratio == 2.0
    assert corpus_on_ray.NOTE in report.notes


def test_the_rate_begins_when_each_worker_has_finished_a_part(tiny_lab, tmp_path):
    rows = [{"text": [1, 2, 3]}, {"text": [4, 5]}, {"text": [6]}, {"text": [7, 8, 9, 10]}]
    run = corpus.record(rows, model=tiny_lab, out=tmp_path / "run", part_rows=1, progress=False)
    for part, second in enumerate((10, 12, 13, 22)):
        os.utime(run.folder / "rows" / f"part-{part:06d}.parquet", (second, second))
    assert corpus_on_ray.steady_rate(run.folder, 1) == pytest.approx((2 + 1 + 4) / 12)
    assert corpus_on_ray.steady_rate(run.folder, 2) == pytest.approx((1 + 4) / 10)


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
