"""Figures of an atlas hold its numbers and escape its texts."""

from dataclasses import replace

import pytest
import torch

from qwen3lab import figures
from qwen3lab.analysis.atlas import Association, Atlas
from qwen3lab.analysis.topic_and_type import TopicAndType
from qwen3lab.figures.theme import traces
from tests.analysis.test_atlas import ATLAS, ENTRY

FOUND = TopicAndType(
    (0, 2),
    ("family", "role"),
    torch.tensor([0.3, 0.2]),
    torch.tensor([0.5, 0.4]),
    torch.tensor([0.1, 0.05]),
    torch.tensor([0.35, 0.25]),
)


def test_each_cell_names_the_best_label_and_has_its_npmi():
    (cells,) = (each for each in traces(figures.atlas_map(ATLAS, "role")) if each.type == "heatmap")
    assert [list(row) for row in cells.z] == [[None, 0.25]]
    assert [list(row) for row in cells.text] == [["", "digit"]]
    assert "50% of its tokens" in cells.customdata[0][1]
    assert "typical: 7" in cells.customdata[0][1]


def test_text_of_labels_and_tokens_is_escaped():
    label = Association("<i>", "<b>x</b>", 0.5, 0.75)
    entry = replace(ENTRY, labels=(label,), tokens=(("<u>", 0.5),))
    figure = figures.atlas_map(Atlas("<s>", (2,), 1, ("<i>",), {(2, 0): replace(entry)}), "<i>")
    assert not [tag for tag in ("<b>", "<u>", "<i>", "<s>") if tag in figure.to_json()]


def test_an_unknown_column_is_refused():
    with pytest.raises(ValueError, match="no labels 'topic': its columns are kind, role"):
        figures.atlas_map(ATLAS, "topic")


def test_lines_have_the_information_of_each_layer_and_chance_beside_it():
    chance = replace(FOUND, topic_within_type=torch.tensor([0.01, 0.02]))
    drawn = {each.name: each for each in traces(figures.topic_and_type(FOUND, chance=chance))}
    values = {name: [round(y, 6) for y in each.y] for name, each in drawn.items()}
    assert values == {
        "role, within one family": [0.35, 0.25],
        "family, within one role": [0.1, 0.05],
        "by chance (shuffled labels)": [0.01, 0.02],
        "family alone": [0.3, 0.2],
    }
    assert len(traces(figures.topic_and_type(FOUND))) == 3
