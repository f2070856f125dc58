import json
from shutil import disk_usage

import pytest
import torch

from qwen3lab import corpus
from qwen3lab.analysis import routing, specialisation, structure
from qwen3lab.corpus import recorder
from qwen3lab.corpus.part import run_part
from qwen3lab.errors import CorpusError, HookError
from tests.corpus.texts import GOOD, ROWS, WEIGHT_ERROR, counted, recorded, same_tables
from tests.fake_lab import DENSE

STREAM, Z = "blocks.1.hook_resid_post", "blocks.2.attn.hook_z"
KEPT = {
    "keep": ("counts", "top", "routes"),
    "reduce": {STREAM: "mean", "blocks.0.hook_resid_post": "0,-1"},
    "full": Z,
    "top_hooks": Z,
}


def record(lab, out, **options):
    defaults = {"label": "kind", "id": "name", "part_rows": 3, "progress": False}
    return corpus.record(ROWS, model=lab, out=out, **(defaults | options))


@pytest.fixture(scope="module")
def run(tiny_lab, tmp_path_factory):
    return record(tiny_lab, tmp_path_factory.mktemp("corpus") / "run", **KEPT)


def test_counts_equal_those_of_each_text_recorded_alone(run, tiny_lab):
    slots, weights = counted(tiny_lab)
    table = run.counts
    assert list(table.columns) == [
        *("layer", "expert", "label", "slots", "weight", "tokens", "npmi"),
    ]
    assert len(table) == len(tiny_lab.config.moe_layers) * tiny_lab.config.n_experts * 3
    for row in table.itertuples():
        assert row.slots == slots[row.layer, row.expert, row.label]
        expected = weights[row.layer, row.expert, row.label]
        assert row.weight == pytest.approx(expected, abs=WEIGHT_ERROR)
    tokens = {label: 0 for _, label in recorded(tiny_lab)}
    for rec, label in recorded(tiny_lab):
        tokens[label] += len(rec)
    assert dict(zip(table.label, table.tokens, strict=True)) == tokens


def test_analyses_of_recordings_agree(run, tiny_lab):
    config, recordings = tiny_lab.config, recorded(tiny_lab)
    experts = torch.cat([rec.routing.experts for rec, _ in recordings], dim=1)
    first = config.moe_layers[0]
    together = run.co_activation(first)
    shares = (together / together.diagonal()[:, None]).float()
    expected = structure.co_activation(experts[0], config.n_experts)
    torch.testing.assert_close(shares, expected, equal_nan=True)
    following = run.transitions(first)
    shares = (following / following.sum(dim=1, keepdim=True)).float()
    expected = structure.transitions(experts[0], experts[1], config.n_experts)
    torch.testing.assert_close(shares, torch.as_tensor(expected), equal_nan=True)
    load = routing.expert_load(experts[1], config.n_experts)
    torch.testing.assert_close(torch.as_tensor(run.load()[1]), torch.as_tensor(load))


def test_npmi_is_that_of_the_labels_slots(run, tiny_lab):
    layer = tiny_lab.config.moe_layers[-1]
    table = run.counts[run.counts.layer == layer]
    slots = table.pivot(index="label", columns="expert", values="slots")
    expected = specialisation.npmi(torch.tensor(slots.values, dtype=torch.float64))
    found = table.pivot(index="label", columns="expert", values="npmi")
    torch.testing.assert_close(torch.tensor(found.values).float(), expected, equal_nan=True)


def test_the_tokens_of_an_expert_are_those_that_were_routed_to_it(run, tiny_lab):
    layer = tiny_lab.config.moe_layers[0]
    expert = int(run.counts.query("layer == @layer").groupby("expert").slots.sum().idxmax())
    expected = {}
    for rec, _ in recorded(tiny_lab):
        for token, chosen in zip(rec.tokens, rec.routing.experts[0].tolist(), strict=True):
            if expert in chosen:
                expected[token] = expected.get(token, 0) + 1
    found = run.tokens(layer, expert)
    assert dict(zip(found.text, found.slots, strict=True)) == expected
    assert found.slots.is_monotonic_decreasing


def test_top_examples_are_the_largest_weights_with_their_context(run, tiny_lab):
    layer = tiny_lab.config.moe_layers[0]
    expert = int(run.counts.query("layer == @layer").groupby("expert").slots.sum().idxmax())
    best = []
    for row, (rec, _) in zip((0, 1, 3, 4, 6, 7), recorded(tiny_lab), strict=True):
        weights = routing.weights_by_expert(
            rec.routing.experts[0], rec.routing.weights[0], tiny_lab.config.n_experts
        )[:, expert]
        if weights.max() > 0:
            best.append((float(weights.max()), row, rec))
    best.sort(key=lambda each: -each[0])
    found = run.top(f"blocks.{layer}.mlp.hook_expert_weights", expert)
    assert found.score.tolist() == pytest.approx([score for score, _, _ in best], abs=1e-5)
    assert found.row[0] == best[0][1]
    text = "".join(best[0][2].tokens)
    assert found.before[0] + found.token[0] + found.after[0] in text


def test_top_examples_of_a_head_have_the_longest_vector(run, tiny_lab):
    recordings = [tiny_lab.record(row["text"], capture=Z) for row in GOOD]
    longest = [float(rec[Z][:, 1].norm(dim=-1).max()) for rec in recordings]
    assert run.top(Z, 1).score[0] == pytest.approx(max(longest), rel=1e-4)


def test_activations_are_those_of_each_text_recorded_alone(run, tiny_lab):
    hooks = [STREAM, "blocks.0.hook_resid_post", Z]
    alone = [tiny_lab.record(row["text"], capture=hooks) for row in GOOD]
    means = torch.cat([shard.values for shard in run.reduced(STREAM)])
    ends = torch.cat([shard.values for shard in run.reduced("blocks.0.hook_resid_post")])
    full = torch.cat([shard.values for shard in run.activations(Z)])
    options = {"atol": 1e-3, "rtol": 1e-3}
    for at, rec in enumerate(alone):
        torch.testing.assert_close(means[at], rec[STREAM].mean(dim=0), **options)
        stream = rec["blocks.0.hook_resid_post"]
        torch.testing.assert_close(ends[at], torch.stack([stream[0], stream[-1]]), **options)
    torch.testing.assert_close(full, torch.cat([rec[Z] for rec in alone]), **options)
    rows = torch.cat([shard.rows for shard in run.reduced(STREAM)])
    assert rows.tolist() == [row for row, each in enumerate(ROWS) if each.get("text")]


def test_routes_are_those_of_each_text_recorded_alone(run, tiny_lab):
    table = run.table("routes").to_table()
    experts = torch.cat([rec.routing.experts for rec, _ in recorded(tiny_lab)], dim=1)
    for at, layer in enumerate(tiny_lab.config.moe_layers):
        assert table[f"experts.{layer}"].to_pylist() == experts[at].tolist()


def test_rows_that_cannot_be_run_are_named(run):
    assert run.skipped.values.tolist() == [
        [2, "empty", "its text is empty"],
        [5, "absent", "it has no value in the column 'text'"],
    ]
    assert (run.total("texts"), run.total("skipped"), run.is_complete) == (6, 2, True)
    assert "skipped rows 2" in repr(run)


def test_a_long_text_is_cut_or_skipped_and_counted(tiny_lab, tmp_path):
    cut = record(tiny_lab, tmp_path / "cut", max_tokens=4)
    assert cut.total("cut") > 0
    assert max(cut.table("rows").to_table()["n_tokens"].to_pylist()) == 4
    left = record(tiny_lab, tmp_path / "skip", max_tokens=4, too_long="skip")
    assert left.total("cut") == 0
    assert left.total("texts") + cut.total("cut") == cut.total("texts")
    assert "tokens, more than 4" in left.skipped.reason.iloc[-1]


def test_rows_of_another_kind_are_named_and_token_ids_are_run(tiny_lab, tmp_path):
    rows = [{"text": 7}, {"text": [18, 10, 19]}, {"text": [10**6]}, {"text": [["a"]]}]
    run = corpus.record(rows, model=tiny_lab, out=tmp_path / "run", progress=False)
    assert run.total("tokens") == 3
    reasons = run.skipped.reason.tolist()
    for found, expected in zip(
        reasons, ("it has int in place", "token 1000000", "list"), strict=True
    ):
        assert expected in found


def test_an_interrupt_keeps_the_parts_done_and_resuming_runs_the_others(
    tiny_lab, tmp_path, monkeypatch
):
    ran = []

    def interrupted(lab, kept, source, part, folder):
        if part.number == 1 and 1 not in ran:
            ran.append(1)
            raise KeyboardInterrupt
        ran.append(part.number)
        return run_part(lab, kept, source, part, folder)

    monkeypatch.setattr(recorder, "run_part", interrupted)
    partial = record(tiny_lab, tmp_path / "run")
    assert not partial.is_complete
    assert partial.total("texts") == 2
    with pytest.raises(CorpusError, match="1 of 3 parts: resume it"):
        record(tiny_lab, tmp_path / "run")
    ran.clear()
    ran.append(1)
    whole = record(tiny_lab, tmp_path / "run", resume=True)
    assert ran == [1, 1, 2]
    monkeypatch.undo()
    assert same_tables(whole, record(tiny_lab, tmp_path / "other"))


def test_a_part_that_is_not_in_the_journal_is_run_again_to_the_same_bytes(tiny_lab, tmp_path):
    whole = record(tiny_lab, tmp_path / "run", **KEPT)
    files = sorted(whole.folder.glob("*/part-000001.parquet"))
    before = {path: path.read_bytes() for path in files}
    (whole.folder / "journal" / "part-000001.parquet").write_bytes(b"PAR1 cut short")
    assert not corpus.open(whole.folder).is_complete
    again = record(tiny_lab, tmp_path / "run", resume=True, **KEPT)
    assert again.is_complete
    assert {path: path.read_bytes() for path in files} == before


def test_other_settings_or_rows_do_not_resume_a_run(tiny_lab, tmp_path):
    record(tiny_lab, tmp_path / "run")
    with pytest.raises(CorpusError, match=r"with other plan.max_tokens: choose"):
        record(tiny_lab, tmp_path / "run", max_tokens=3, resume=True)
    with pytest.raises(CorpusError, match="holds other rows"):
        corpus.record(ROWS[1:], model=tiny_lab, out=tmp_path / "run", resume=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("mine")
    with pytest.raises(CorpusError, match="is not empty, and has no corpus"):
        record(tiny_lab, tmp_path / "full")


def test_several_label_columns_are_counted_apart(tiny_lab, tmp_path):
    both = record(tiny_lab, tmp_path / "run", label=["kind", "name"])
    table = both.counts
    sums = table.groupby(["column", "layer"]).slots.sum()
    assert sums["kind"].tolist() == sums["name"].tolist()
    assert set(table[table.column == "name"].label) == {row["name"] for row in GOOD}


def test_what_cannot_be_kept_is_refused(tiny_lab, tmp_path, monkeypatch):
    out = tmp_path / "run"
    for options, reason in [
        ({"keep": "all"}, "keep names 'all'"),
        ({"keep": ()}, "nothing is kept"),
        ({"reduce": {STREAM: "max"}}, "is reduced by 'max'"),
        ({"too_long": "wrap"}, "too_long is 'wrap'"),
        ({"label": ("kind", "kind")}, "a column is named twice"),
        ({"top_hooks": Z}, 'add "top" to keep'),
        ({"cross": True}, "cross counts pairs of labels"),
        ({"full": "blocks.0.attn.hook_pattern"}, "has the axes batch head query key"),
        ({"batch": 3}, "there is no option 'batch'"),
        ({"ray": True}, "a lab cannot be sent"),
    ]:
        with pytest.raises(CorpusError, match=reason):
            record(tiny_lab, out, **options)
    with pytest.raises(HookError):
        record(tiny_lab, out, full="blocks.77.hook_z")
    small = disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(recorder, "disk_usage", lambda path: small)
    with pytest.raises(CorpusError, match=r"expected to write .* GB free"):
        record(tiny_lab, out)


def test_a_dense_model_has_no_routing_to_keep():
    plan = corpus.CorpusPlan(model="dense")
    with pytest.raises(CorpusError, match="dense is dense, so it has no routing"):
        recorder.Kept.of(plan, DENSE)


def test_a_folder_without_a_corpus_is_refused(run, tmp_path):
    with pytest.raises(CorpusError, match="holds no corpus"):
        corpus.open(tmp_path)
    fields = json.loads((run.folder / "manifest.json").read_text())
    for change in ({"format": 99}, {"kind": "other"}, {"plan": 3}, {"n_rows": "many"}):
        (tmp_path / "manifest.json").write_text(json.dumps(fields | change))
        with pytest.raises(CorpusError, match="holds no corpus"):
            corpus.open(tmp_path)


def test_a_missing_table_is_named(run, tiny_lab, tmp_path):
    bare = record(tiny_lab, tmp_path / "run")
    with pytest.raises(CorpusError, match="kept no routes: keep was counts"):
        bare.table("routes")
    with pytest.raises(CorpusError, match="no table 'logits'"):
        run.table("logits")
    (bare.folder / "tokens" / "part-000001.parquet").unlink()
    with pytest.raises(CorpusError, match="files of the table 'tokens' are missing"):
        bare.tokens(0, 0)
    with pytest.raises(CorpusError, match="no label 'essay': the labels are chat, product, sum"):
        bare.load("essay")


def test_labels_of_tokens_group_them_and_are_crossed_with_those_of_texts(tiny_lab, tmp_path):
    rows = [
        {"text": tiny_lab.token_ids(row["text"]), "kind": row["kind"], "name": row["name"]}
        for row in GOOD
    ]
    for row in rows:  # Tokens of even and odd numbers, which numpy counts below.
        row["type"] = ["odd" if token % 2 else "even" for token in row["text"]]
    wrong = [
        {**rows[0], "type": ["odd"], "name": "short"},
        {**rows[0], "type": "odd", "name": "text"},
    ]
    options = {"label": "kind", "token_label": "type", "cross": True, "id": "name"}
    out = tmp_path / "run"
    run = corpus.record([*rows, *wrong], model=tiny_lab, out=out, progress=False, **options)
    table = run.counts
    assert list(dict.fromkeys(table.column)) == ["kind", "kind × type", "type"]
    routing = [tiny_lab.record(row["text"]).routing for row in rows]
    for row_of_table in table[table.slots > 0].itertuples():
        expected = 0
        for row, routed in zip(rows, routing, strict=True):
            at = routed.layers.index(row_of_table.layer)
            for chosen, kind in zip(routed.experts[at].tolist(), row["type"], strict=True):
                groups = {row["kind"], kind, f"{row['kind']} × {kind}"}
                expected += row_of_table.expert in chosen and row_of_table.label in groups
        assert row_of_table.slots == expected
    n = len(rows[0]["text"])
    assert run.skipped.reason.tolist() == [
        f"it has 1 labels in the column 'type' for {n} tokens: give one for each token, and token "
        "ids in place of the text if you are not sure",
        "its labels in the column 'type' are no list: give one for a token",
    ]
    cut = corpus.record(
        rows, model=tiny_lab, out=tmp_path / "cut", max_tokens=2, progress=False, **options
    )
    tokens = dict(cut.table("groups").to_table().select(["label", "tokens"]).to_pandas().values)
    assert tokens["odd"] + tokens["even"] == 2 * len(rows) == cut.total("tokens")
