"""Direct logit attribution sums to the logit, and agrees with a computation by hand."""

import pytest
import torch

from qwen3lab import attribution
from qwen3lab.errors import RecordingError
from tests.lenses.small import small_lab

IDS = [3, 14, 15, 9, 2, 6]


@pytest.fixture(params=["experts", "dense"])
def lab(request, tiny_tokenizer):
    return small_lab(tiny_tokenizer, experts=request.param == "experts")


@pytest.mark.parametrize("position", [-1, 0, 2])
@pytest.mark.parametrize("other", [None, 7])
def test_parts_sum_to_the_logit(lab, position, other):
    rec = lab.record(IDS, capture=attribution.needed(lab))
    found = attribution.direct(lab, rec, 20, other=other, position=position)
    logits = rec.logits[position]
    expected = float(logits[20] - (0 if other is None else logits[other]))
    assert found.total == pytest.approx(expected, abs=1e-5)
    assert sum(part.value for part in found.parts) == pytest.approx(expected, abs=1e-4)
    assert "remainder" not in {part.kind for part in found.parts}


def test_each_part_equals_its_output_times_the_unembedding(lab):
    hooks = ["blocks.*.attn.hook_result", "blocks.*.hook_mlp_out", *attribution.needed(lab)]
    rec = lab.record(IDS, capture=hooks)
    found = attribution.direct(lab, rec, 20)
    scale = rec["ln_final.hook_scale"][-1]
    column = lab.model.unembedding.detach()[20] * lab.model.ln_final.weight.detach() / scale
    parts = {part.name: part.value for part in found.parts}
    for layer in range(3):
        for head in range(4):
            wrote = rec[f"blocks.{layer}.attn.hook_result"][-1, head]
            assert parts[f"head {layer}.{head}"] == pytest.approx(float(wrote @ column), abs=1e-4)
        mlp = found.by_layer()["expert" if layer in lab.config.moe_layers else "mlp"][layer]
        expected = float(rec[f"blocks.{layer}.hook_mlp_out"][-1] @ column)
        assert float(mlp) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("lab", ["experts"], indirect=True)
def test_experts_have_their_own_numbers(lab):
    rec = lab.record(IDS, capture=attribution.needed(lab))
    found = attribution.direct(lab, rec, 20, position=3)
    for layer in lab.config.moe_layers:
        named = [p.index for p in found.parts if p.kind == "expert" and p.layer == layer]
        assert named == rec.routing.layer(layer).experts[3].tolist()


def test_neurons_sum_to_the_part_of_their_mlp(lab):
    rec = lab.record(IDS, capture=attribution.needed(lab, neurons=True))
    parts = {part.name: part.value for part in attribution.direct(lab, rec, 20, other=3).parts}
    found = attribution.neurons(lab, rec, 0, 20, other=3)
    assert len(found.parts) == lab.config.d_mlp
    assert sum(part.value for part in found.parts) == pytest.approx(parts["mlp 0"], abs=1e-4)


def test_an_edit_of_the_stream_itself_is_the_remainder(lab):
    bump = torch.ones(lab.config.d_model)
    edits = {"blocks.1.hook_resid_post": lambda value, name: value + bump}
    rec = lab.record(IDS, capture=attribution.needed(lab), edits=edits)
    found = attribution.direct(lab, rec, 20)
    rest = found.parts[-1]
    scale = rec["ln_final.hook_scale"][-1]
    column = lab.model.unembedding.detach()[20] * lab.model.ln_final.weight.detach() / scale
    assert rest.kind == "remainder"
    assert rest.value == pytest.approx(float(bump @ column), abs=1e-3)
    assert sum(part.value for part in found.parts) == pytest.approx(found.total, abs=1e-4)


def test_a_recording_without_the_hooks_is_refused(lab):
    with pytest.raises(RecordingError, match=r"record with capture=attribution\.needed"):
        attribution.direct(lab, lab.record(IDS), 20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token": 1536}, "token 1536 does not exist"),
        ({"token": "12"}, "“12” is 2 tokens of small"),
        ({"token": 20, "position": 6}, "position 6 does not exist: the run has tokens 0 to 5"),
    ],
)
def test_what_does_not_exist_is_refused(lab, options, message):
    rec = lab.record(IDS, capture=attribution.needed(lab))
    with pytest.raises(ValueError, match=message):
        attribution.direct(lab, rec, **options)


def test_the_table_has_one_row_for_each_part(lab):
    rec = lab.record(IDS, capture=attribution.needed(lab))
    found = attribution.direct(lab, rec, 20)
    table = found.to_pandas()
    assert len(table) == len(found.parts)
    assert table.value.sum() == pytest.approx(found.total, abs=1e-4)
    assert found.strongest(1)[0].value == table.value[table.value.abs().idxmax()]
