"""`qwen3lab verify` agrees with transformers on right weights, and finds each planted error."""

import json
import sys
from dataclasses import replace

import pytest
import torch

import qwen3lab
from qwen3lab import cli
from qwen3lab.checkpoints.folders import find_folder
from qwen3lab.errors import CheckpointError
from qwen3lab.verification import verify, verify_lab
from qwen3lab.verification.comparison import OWN_STREAM, compare
from qwen3lab.verification.prompts import continued, prompt_ids
from qwen3lab.verification.report import Difference
from qwen3lab.verification.transformers_reference import open_layered

CPU = torch.device("cpu")


def lab_of(name):
    return qwen3lab.load(name, device="cpu", dtype="float32")


def found_in(lab, name, *, prompt="code"):
    """What the comparison finds in a lab that was changed, on one prompt."""
    runs = [continued(lab, prompt_ids(lab)[prompt], prompt, tokens=2)]
    reference = open_layered(find_folder(name), device=CPU, dtype=lab.model.dtype)
    return compare(lab.model, reference, runs, progress=False)


def layers_of(differences):
    """Layers that differ from transformers on the same input."""
    names = [d.hook.split(".") for d in differences if d.note != OWN_STREAM]
    return {int(parts[1]) for parts in names if parts[0] == "blocks"}


@pytest.mark.parametrize("name", ["tiny-dense", "tiny-moe"])
def test_nothing_differs_in_the_embedded_models(name):
    found = verify(name, device="cpu", dtype="float32", layered=False, tokens=3, progress=False)
    assert found.ok, found.line
    assert found.first == "" and "agrees with transformers" in found.line
    assert set(found.prompts) == {"English", "Chinese", "code", "chat"}
    assert found.greedy.equal == found.greedy.compared > 0
    assert all(check.holds for check in found.controls), found.controls
    assert [c.name for c in found.controls][1:] == [
        "thinking on",
        "thinking off",
        "budget",
        "/no_think",
    ]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tiny-moe", {"dtype": "bfloat16", "layered": False}),
        ("tiny-moe", {"dtype": "float32", "memory": "40MB"}),
    ],
)
def test_nothing_differs_in_bfloat16_or_streamed(name, options):
    found = verify(name, device="cpu", tokens=2, progress=False, **options)
    assert found.ok, found.line
    assert ("streamed" in found.about["weights"]) == ("memory" in options)
    assert ("layer by layer" in found.about["reference"]) == ("memory" in options)


def test_a_wrong_rope_theta_shows_in_the_first_rotation_and_in_every_layer():
    lab = lab_of("tiny-dense")
    rope = lab.config.rope
    lab.model.config = replace(lab.config, rope=replace(rope, theta=rope.theta * 1.01))
    found = found_in(lab, "tiny-dense").differences
    assert found[0].hook == "blocks.0.attn.hook_rot_q"
    assert "rope_theta" in found[0].sentence
    assert layers_of(found) == set(range(lab.config.n_layers))


@pytest.mark.parametrize(
    ("name", "norm", "first"),
    [
        ("tiny-dense", "blocks.2.ln1", "blocks.2.attn.hook_q"),
        ("tiny-dense", "blocks.4.ln2", "blocks.4.mlp.hook_pre"),
        ("tiny-moe", "blocks.3.ln2", "blocks.3.mlp.hook_router_logits"),
        ("tiny-moe", "ln_final", "hook_unembed"),
    ],
)
def test_a_doubled_norm_is_found_in_its_layer_alone(name, norm, first):
    lab = lab_of(name)
    with torch.no_grad():
        lab.model.get_submodule(norm).weight.mul_(2)
    found = found_in(lab, name).differences
    assert found[0].hook == first
    assert layers_of(found) == ({int(norm.split(".")[1])} if "." in norm else set())


def test_two_swapped_experts_are_found_in_their_layer_alone():
    lab = lab_of("tiny-moe")
    mlp = lab.model.blocks[4].mlp
    with torch.no_grad():
        for matrices in (mlp.gate_up, mlp.down):
            matrices[[0, 1]] = matrices[[1, 0]]
    found = found_in(lab, "tiny-moe").differences
    assert found[0].hook == "blocks.4.hook_mlp_out"
    assert "experts" in found[0].sentence and layers_of(found) == {4}


def test_exchanged_norms_of_queries_and_keys_are_found():
    lab = lab_of("tiny-dense")
    attn = lab.model.blocks[1].attn
    attn.q_norm, attn.k_norm = attn.k_norm, attn.q_norm
    found = found_in(lab, "tiny-dense").differences
    assert found[0].hook == "blocks.1.attn.hook_rot_q" and layers_of(found) == {1}


def test_a_wrong_norm_topk_prob_is_found_in_the_weights_of_the_experts():
    lab = lab_of("tiny-moe")
    for layer in lab.config.moe_layers:
        lab.model.blocks[layer].mlp.renormalise = not lab.config.norm_topk_prob
    found = found_in(lab, "tiny-moe").differences
    assert found[0].hook == f"blocks.{lab.config.moe_layers[0]}.mlp.hook_expert_weights"
    assert "norm_topk_prob" in found[0].sentence
    assert layers_of(found) == set(lab.config.moe_layers)


def test_another_number_of_experts_is_found_in_the_choice():
    lab = lab_of("tiny-moe")
    router = lab.model.blocks[2].mlp.router
    with torch.no_grad():
        router.weight.copy_(router.weight.roll(1, dims=0))
    found = found_in(lab, "tiny-moe").differences
    assert found[0].hook == "blocks.2.mlp.hook_router_logits"
    assert any(d.hook == "blocks.2.mlp.hook_expert_indices" for d in found)


def test_a_broken_cache_is_found_in_the_greedy_tokens():
    lab = lab_of("tiny-dense")
    run = continued(lab, prompt_ids(lab)["English"], "English", tokens=3)
    wrong = replace(run, written=(*run.written[:-1], (run.written[-1] + 1) % lab.config.d_vocab))
    reference = open_layered(find_folder("tiny-dense"), device=CPU, dtype=torch.float32)
    [found] = compare(lab.model, reference, [wrong], progress=False).differences
    assert found.hook == "greedy tokens" and "token 2 of the reply" in found.sentence


def test_an_error_in_bfloat16_is_found_above_the_rounding():
    lab = qwen3lab.load("tiny-dense", device="cpu", dtype="bfloat16")
    with torch.no_grad():
        lab.model.blocks[3].ln1.weight.mul_(2)
    found = found_in(lab, "tiny-dense").differences
    assert found[0].hook == "blocks.3.attn.hook_q" and layers_of(found) == {3}


def test_the_command_says_first_what_differs_and_exits_with_1(monkeypatch, capfd, tmp_path):
    lab, file = lab_of("tiny-dense"), tmp_path / "found.json"
    with torch.no_grad():
        lab.model.blocks[2].ln1.weight.mul_(2)
    monkeypatch.setattr("qwen3lab.verification.against_transformers.load", lambda *_, **__: lab)
    arguments = ["verify", "tiny-dense", "--tokens", "1", "--layered", "--out", str(file)]
    monkeypatch.setattr(sys, "argv", ["qwen3lab", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out, _ = capfd.readouterr()
    assert stopped.value.code == 1
    last = out.strip().splitlines()[-1]
    assert "DIFFERS: blocks.2.attn.hook_q differs on the prompt" in last
    for package in ("qwen3lab", "torch", "transformers", "python"):
        assert f"{package} " in last
    report = json.loads(file.read_text("utf-8"))
    assert (report["ok"], report["format"], report["line"]) == (False, 1, last)
    assert report["differences"][0]["hook"] == "blocks.2.attn.hook_q"


def test_a_quantised_lab_is_refused():
    pytest.importorskip("torchao")
    lab = qwen3lab.load("tiny-dense", device="cpu", quantise="int8")
    with pytest.raises(CheckpointError, match=r"is quantised to .*int8.*experiments.fidelity"):
        verify_lab(lab, find_folder("tiny-dense"), progress=False)


def test_a_difference_is_one_sentence_that_says_where_to_look():
    found = Difference("blocks.3.attn.hook_rot_q", "Chinese", 0.2, 1e-7, 8e-7)
    assert found.sentence == (
        "blocks.3.attn.hook_rot_q differs on the prompt Chinese: 2.0e-01 from the wider "
        "computation, where transformers is 1.0e-07 and 8.0e-07 is allowed; look at q_norm, "
        "rope_theta or the rope scaling"
    )
