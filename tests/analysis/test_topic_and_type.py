"""Specialisation by topic and by type, against planted experts and scikit-learn."""

import math

import pytest
import torch
from sklearn.metrics import mutual_info_score

from qwen3lab.analysis.topic_and_type import topic_and_type

LOG_2 = math.log(2)


def planted(rule) -> torch.Tensor:
    """Counts of one layer: 10 tokens of each topic and type, all routed by a rule."""
    counts = torch.zeros(1, 2, 2, 2)
    for topic in range(2):
        for kind in range(2):
            counts[0, topic, kind, rule(topic, kind)] = 10
    return counts


def test_experts_of_types_tell_nothing_about_topics_and_the_other_way_round():
    by_type = topic_and_type(planted(lambda topic, kind: kind), layers=[3])
    assert by_type.type_within_topic.tolist() == pytest.approx([LOG_2])
    assert by_type.topic_within_type.tolist() == pytest.approx([0.0])
    by_topic = topic_and_type(planted(lambda topic, kind: topic), layers=[3])
    assert by_topic.type_within_topic.tolist() == pytest.approx([0.0])
    assert by_topic.topic_within_type.tolist() == pytest.approx([LOG_2])


def test_a_topic_that_the_type_explains_vanishes_once_the_type_is_known():
    counts = torch.zeros(1, 2, 2, 2)  # Each topic has a type of its own; experts follow the type.
    counts[0, 0, 0, 0], counts[0, 1, 1, 1] = 10, 10
    found = topic_and_type(counts, layers=[0])
    assert found.topic.tolist() == pytest.approx([LOG_2])
    assert found.topic_within_type.tolist() == pytest.approx([0.0])


def test_values_are_those_of_scikit_learn_and_of_the_chain_rule():
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 9, (2, 3, 4, 5), generator=generator).double()
    found = topic_and_type(counts, layers=[0, 2])
    for row, layer in enumerate(counts.numpy()):
        topic = mutual_info_score(None, None, contingency=layer.sum(axis=1))
        kind = mutual_info_score(None, None, contingency=layer.sum(axis=0))
        both = mutual_info_score(None, None, contingency=layer.reshape(12, 5))
        assert float(found.topic[row]) == pytest.approx(topic, rel=1e-5)
        assert float(found.kind[row]) == pytest.approx(kind, rel=1e-5)
        assert float(found.topic_within_type[row]) == pytest.approx(both - kind, rel=1e-5)
        assert float(found.type_within_topic[row]) == pytest.approx(both - topic, rel=1e-5)
    assert found.to_pandas().layer.tolist() == [0, 2]
    assert "type, within one topic" in repr(found)


def test_counts_of_another_number_of_layers_and_empty_ones_are_refused():
    with pytest.raises(ValueError, match="counts have 1 layers: expected 2"):
        topic_and_type(torch.ones(1, 2, 2, 2), layers=[0, 1])
    with pytest.raises(ValueError, match="nothing was counted"):
        topic_and_type(torch.zeros(1, 2, 2, 2), layers=[0])
