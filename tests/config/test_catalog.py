import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import qwen3lab
from qwen3lab.config.catalog import PUBLISHED, model_table
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.model.transformer import Qwen3

# Parameters of each published model: total, and active for one token.
COUNTS = {
    "Qwen/Qwen3-0.6B": (596_049_920, 596_049_920),
    "Qwen/Qwen3-1.7B": (1_720_574_976, 1_720_574_976),
    "Qwen/Qwen3-4B": (4_022_468_096, 4_022_468_096),
    "Qwen/Qwen3-8B": (8_190_735_360, 8_190_735_360),
    "Qwen/Qwen3-14B": (14_768_307_200, 14_768_307_200),
    "Qwen/Qwen3-32B": (32_762_123_264, 32_762_123_264),
    "Qwen/Qwen3-30B-A3B": (30_532_122_624, 3_353_032_704),
    "Qwen/Qwen3-235B-A22B": (235_093_634_560, 22_190_763_520),
}
SMALL = Qwen3Config(d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, d_head=4, d_mlp=8, d_vocab=10)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_match_the_published_models(name):
    row = next(row for row in model_table() if row.name == name)
    assert (row.n_params, row.n_active_params) == COUNTS[name]


@pytest.mark.parametrize("name", COUNTS)
def test_the_parameter_count_matches_the_transformers_model(name):
    config = AutoConfig.for_model(**PUBLISHED[name].to_dict())
    with torch.device("meta"):
        theirs = AutoModelForCausalLM.from_config(config)
    assert sum(p.numel() for p in theirs.parameters()) == PUBLISHED[name].n_params


@pytest.mark.parametrize("name", ["Qwen/Qwen3-32B", "Qwen/Qwen3-235B-A22B"])
def test_the_parameter_count_matches_our_model_on_the_meta_device(name):
    ours = Qwen3(PUBLISHED[name], device="meta")
    assert sum(p.numel() for p in ours.parameters()) == PUBLISHED[name].n_params
    assert {p.device.type for p in ours.parameters()} == {"meta"}


def test_active_parameters_exclude_exactly_the_experts_not_chosen():
    config = PUBLISHED["Qwen/Qwen3-30B-A3B"]
    idle = 48 * (128 - 8) * 3 * 2048 * 768
    assert config.n_params - config.n_active_params == idle


def test_bytes_follow_the_shapes():
    row = next(row for row in model_table() if row.name == "Qwen/Qwen3-30B-A3B")
    # keys and values, layers, key/value heads, head size, bytes
    assert row.kv_cache_bytes_per_token["bfloat16"] == 2 * 48 * 4 * 128 * 2 == 98_304
    matrices = 48 * (2 * 2048 * (4096 + 512) + 128 * 3 * 2048 * 768)
    rows = 48 * (4096 + 2 * 512 + 2048 + 128 * (2 * 768 + 2048))
    assert row.weight_bytes == {
        "float32": 4 * 30_532_122_624,
        "bfloat16": 2 * 30_532_122_624,
        "float16": 2 * 30_532_122_624,
        # Attention and experts: half a byte, plus scale and zero point per 32 weights.
        "int4": (5 * matrices) // 8 + 2 * (30_532_122_624 - matrices),
        "int8": matrices + 2 * rows + 2 * (30_532_122_624 - matrices),
    }


def test_the_table_shows_sizes_and_parameter_counts(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    lines = repr(model_table()).splitlines()
    assert len(lines) == 2 + 8
    row = next(line for line in lines if "Qwen3-235B-A22B" in line).split()
    assert row[1:11] == [
        "4096",
        "12288",
        "94",
        "64",
        "4",
        "128",
        "(8)",
        "1536",
        "no",
        "235,093,634,560",
    ]
    assert row[11:14] == ["22,190,763,520", "188", "KiB"]


@pytest.mark.parametrize("columns", [60, 80, 100, 120, 150])
def test_the_table_fits_the_terminal_and_always_names_model_and_size(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = repr(model_table())
    assert max(map(len, text.splitlines())) <= columns
    assert "Qwen/Qwen3-0.6B" in text and "596,049,920" in text


def test_rows_are_plain_values_for_json():
    rows = json.loads(json.dumps(model_table().to_dicts()))
    assert [row["name"] for row in rows] == list(COUNTS)
    assert rows[0]["tied_embeddings"] is True and rows[0]["n_experts"] == 0


def test_the_data_frame_has_a_column_per_dtype():
    frame = model_table().to_pandas().set_index("name")
    assert frame.loc["Qwen/Qwen3-8B", "weight_bytes_float32"] == 4 * 8_190_735_360


def test_rows_can_be_indexed_and_sliced():
    table = model_table()
    assert table[-1].name == "Qwen/Qwen3-235B-A22B"
    assert [row.name for row in table[:2]] == ["Qwen/Qwen3-0.6B", "Qwen/Qwen3-1.7B"]
    assert "_repr_html_" in dir(table[:2])


def test_extra_models_come_first_and_their_names_are_escaped(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    table = model_table({"<img src=x>[bold]": SMALL})
    assert table[0].d_model == 8 and len(table) == 9
    assert "<img src=x>[bold]" in repr(table)
    html = table._repr_html_()
    assert "<img" not in html and "&lt;img src=x&gt;[bold]" in html
    assert html.count("<tr") == 1 + 9


def test_a_name_cannot_colour_the_terminal_or_bring_a_tag():
    table = model_table({"a\x1b[31m\u202e<b>": SMALL})
    assert "\x1b" not in repr(table) and "\u202e" not in repr(table)
    assert r"a\x1b[31m\u202e&lt;b&gt;" in table._repr_html_()


def test_an_empty_table_shows_its_columns():
    assert "parameters" in model_table()[:0]._repr_html_()


def test_the_package_lists_its_embedded_models_before_the_published_ones():
    names = [row.name for row in qwen3lab.models()]
    assert names[-8:] == list(COUNTS)
    assert all("/" not in name for name in names[:-8])


def test_the_table_is_text_in_a_notebook_too(monkeypatch):
    # In a notebook, rich prints to the notebook in place of the file that it was given.
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert "Qwen3-0.6B" in repr(model_table())
