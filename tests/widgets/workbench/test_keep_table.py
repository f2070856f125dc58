"""The numbers of the shown view as CSV, compared with the recording."""

import csv
import json
from pathlib import Path

import pytest
import torch

from qwen3lab.errors import RecordingError
from qwen3lab.widgets import Workbench
from tests.fake_lab import MOE, FakeLab, record

TOKENS = ["=1+1", 'a "b"', "x,\ny", "d"]


@pytest.fixture
def bench() -> Workbench:
    return Workbench(record(MOE, TOKENS, {"prompt": (0, 2), "answer": (2, 4)}))


def exported(bench: Workbench, tab: str, folder: Path) -> tuple[str, list[str], list[list[str]]]:
    bench.state.tab = tab
    bench.export_csv(folder / "view.csv")
    with (folder / "view.csv").open(encoding="utf-8", newline="") as file:
        (about,), columns, *rows = csv.reader(file)
    return about, columns, rows


def test_the_weights_of_the_picked_head_are_written(bench, tmp_path) -> None:
    bench.state.layer, bench.state.head = 2, 3
    about, columns, rows = exported(bench, "attention", tmp_path)
    assert about == "attention weights of layer 2, head 3: a row for each query; fake"
    assert columns[:3] == ["query", "text", '0 "=1+1"']
    assert [json.loads(row[1]) for row in rows] == TOKENS
    values = torch.tensor([[float(value) for value in row[2:]] for row in rows])
    assert torch.equal(values, bench.state.recording.attention[2, 3].as_subclass(torch.Tensor))


def test_of_a_window_only_its_weights_are_written(bench, tmp_path) -> None:
    bench.state.window = (1, 3, 0, 2)
    _, columns, rows = exported(bench, "attention", tmp_path)
    assert columns[2:] == ['0 "=1+1"', '1 "a \\"b\\""'] and [row[0] for row in rows] == ["1", "2"]
    exact = bench.state.recording.attention[2, 0][1:3, 0:2]
    assert [[float(v) for v in row[2:]] for row in rows] == exact.tolist()


def test_no_cell_begins_as_a_formula(bench, tmp_path) -> None:
    for tab in ("text", "attention", "routing"):
        _, columns, rows = exported(bench, tab, tmp_path)
        assert not [cell for row in (columns, *rows) for cell in row if cell[:1] in ("=", "+", "@")]


def test_the_routing_of_the_picked_layer_is_written(bench, tmp_path) -> None:
    bench.state.routing_layer = 1
    about, columns, rows = exported(bench, "routing", tmp_path)
    assert "in layer 1" in about
    assert columns == ["token", "text", "expert 0", "weight 0", "expert 1", "weight 1"]
    layer = bench.state.recording.routing.layer(1)
    assert [[int(row[2]), int(row[4])] for row in rows] == layer.experts.tolist()
    assert [[float(row[3]), float(row[5])] for row in rows] == layer.weights.tolist()


def test_tokens_have_their_surprisal_and_none_where_none_is_known(tiny_lab, tmp_path) -> None:
    bench = Workbench(tiny_lab, question="3+4=?", thinking=False)
    chat = bench.run()
    _, columns, rows = exported(bench, "text", tmp_path)
    assert columns == ["token", "text", "part", "surprisal (nats)", "entropy (nats)"]
    first = chat.spans["prompt"][1]
    assert rows[0][2:] == ["prompt", "", ""]
    assert [float(row[3]) for row in rows[first:]] == (-chat.logprobs)[: len(rows) - first].tolist()


def test_a_hook_is_written_token_by_token(tiny_lab, tmp_path) -> None:
    bench = Workbench(tiny_lab.record("3+4=?", capture=["blocks.2.hook_resid_post"]))
    bench.state.hook = "blocks.2.hook_resid_post"
    about, columns, rows = exported(bench, "raw", tmp_path)
    assert about.startswith("values of blocks.2.hook_resid_post") and len(columns) == 2 + 128
    exact = bench.state.recording["blocks.2.hook_resid_post"]
    assert [[float(v) for v in row[2:]] for row in rows] == exact.tolist()


def test_early_answers_and_the_lens_are_written(tiny_lab, tmp_path) -> None:
    bench = Workbench(tiny_lab, question="3+4=?")
    bench.run()
    bench.state.tab = "thinking"
    bench.wait()
    _, columns, rows = exported(bench, "thinking", tmp_path)
    found = {int(kept): json.loads(answer) for kept, answer in rows}
    assert columns == ["kept", "answer"] and len(found) > 1
    assert found == {kept: answer.text for kept, answer in bench.state.answers.items()}
    bench.state.token, bench.state.tab = len(bench.state.recording) - 2, "why"
    bench.wait()
    about, _, rows = exported(bench, "why", tmp_path)
    exact = bench.state.explained.probability
    assert "a row for each layer" in about
    assert torch.equal(torch.tensor([[float(v) for v in row[1:]] for row in rows]), exact)


def test_a_view_without_numbers_is_refused(bench, tmp_path) -> None:
    for tab, says in (("thinking", "no early answers"), ("why", "no token"), ("raw", "recorded")):
        bench.state.tab = tab
        with pytest.raises(RecordingError, match=says):
            bench.export_csv(tmp_path / "view.csv")
    with pytest.raises(RecordingError, match="no finished run"):
        Workbench(FakeLab()).export_csv(tmp_path / "view.csv")
    assert not (tmp_path / "view.csv").exists()
