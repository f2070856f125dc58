"""Adapters beside the weights, compared with peft's own unmerged forward pass."""

import threading

import pytest
import torch
from safetensors.torch import load_file

import qwen3lab
from qwen3lab.errors import CheckpointError, RecordingError
from qwen3lab.recording.weights_fingerprint import fingerprint
from tests.adapters.made import EVERYWHERE, FUSED_KINDS, IDS, KINDS, logits_of, saved

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # Of peft, about transformers.
    # Of peft, which converts names of transformers 4 to patterns that match nothing.
    pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning"),
]
Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj"
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(scope="module")
def dense():
    return qwen3lab.load("tiny-dense", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def moe():
    return qwen3lab.load("tiny-moe", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return folder, logits_of(saved(folder, **KINDS["plain"]))


@pytest.fixture(scope="module")
def both(plain, tmp_path_factory):
    """A lab with two adapters, "one" and "two", and the folders of both."""
    other = tmp_path_factory.mktemp("two")
    # Rank-stabilised, peft's weighted sum would be off: it scales the sum by its own root of r.
    saved(other, seed=1, r=3, lora_alpha=6, target_modules=EVERYWHERE)
    lab = qwen3lab.load("tiny-dense", device="cpu", dtype="float32")
    lab.adapters.add("one", plain[0])
    lab.adapters.add("two", other)
    return lab, plain[0], other


@pytest.mark.parametrize("kind", KINDS)
def test_a_lab_with_an_adapter_computes_what_peft_computes_unmerged(dense, kind, tmp_path):
    expected = logits_of(saved(tmp_path, **KINDS[kind]))
    before, weights = dense.record(IDS).logits, fingerprint(dense.model)
    dense.adapters.add(kind, tmp_path)
    tuned = dense.adapters.on(kind)
    torch.testing.assert_close(tuned.record(IDS).logits, expected, **CLOSE)
    assert float((before - expected).abs().max()) > 0.01
    assert torch.equal(dense.adapters.on({kind: 0}).record(IDS).logits, before)
    assert torch.equal(dense.record(IDS).logits, before)
    assert fingerprint(dense.model) == weights != fingerprint(tuned.model)


@pytest.mark.parametrize("kind", FUSED_KINDS)
def test_a_lab_with_an_adapter_of_experts_computes_what_peft_computes(moe, kind, tmp_path):
    peft_model = saved(tmp_path, "tiny-moe", r=2, lora_alpha=6, **FUSED_KINDS[kind])
    expected = logits_of(peft_model.merge_and_unload())
    moe.adapters.add(kind, tmp_path)
    tuned = moe.adapters.on(kind)
    torch.testing.assert_close(tuned.record(IDS).logits, expected, **CLOSE)
    assert float((moe.record(IDS).logits - expected).abs().max()) > 0.01


@pytest.mark.parametrize("kind", ["plain", "dora", "patterns"])
def test_the_weights_of_such_a_lab_are_those_that_peft_merges(dense, kind, tmp_path):
    merged = saved(tmp_path, **KINDS[kind]).merge_and_unload().state_dict()
    name = f"weights of {kind}"
    dense.adapters.add(name, tmp_path)
    block = dense.adapters.on(name).model.blocks[1]
    for ours, theirs in (("attn.q", "self_attn.q_proj"), ("mlp.down", "mlp.down_proj")):
        found = block.get_submodule(ours).weight
        expected = merged[f"model.layers.1.{theirs}.weight"]
        torch.testing.assert_close(found.detach(), expected, atol=1e-6, rtol=1e-5)


def test_strengths_of_several_adapters_are_those_of_pefts_weighted_sum(both):
    import peft

    lab, one, two = both
    model = saved(one.parent / "again", **KINDS["plain"])
    model.load_adapter(one, "one")
    model.load_adapter(two, "two")
    model.add_weighted_adapter(["one", "two"], [0.5, -1.5], "sum", combination_type="cat")
    model.set_adapter("sum")
    assert isinstance(model, peft.PeftModel)
    found = lab.adapters.on({"one": 0.5, "two": -1.5}).record(IDS)
    torch.testing.assert_close(found.logits, logits_of(model), **CLOSE)
    merged = qwen3lab.load(
        "tiny-dense", device="cpu", dtype="float32", adapter={one: 0.5, two: -1.5}
    )
    torch.testing.assert_close(merged.record(IDS).logits, logits_of(model), **CLOSE)
    assert merged.name == f"tiny-dense + 0.5 x {one} + -1.5 x {two}"
    assert found.model_name == "tiny-dense + 0.5 x one + -1.5 x two"


def test_a_strength_of_an_adapter_holds_for_labs_that_are_made_later(both):
    lab = both[0]
    full, half = lab.adapters.on("one"), lab.adapters.on({"one": 0.5})
    before = full.record(IDS).logits
    try:
        lab.adapters["one"].strength = 0.5
        assert torch.equal(lab.adapters.on("one").record(IDS).logits, half.record(IDS).logits)
        assert torch.equal(full.record(IDS).logits, before)
        with pytest.raises(ValueError, match="strength is nan"):
            lab.adapters["one"].strength = float("nan")
    finally:
        lab.adapters["one"].strength = 1


def test_writing_with_an_adapter_is_writing_with_the_merged_weights(both):
    lab, one, _ = both
    tuned = lab.adapters.on("one")
    merged = qwen3lab.load("tiny-dense", device="cpu", dtype="float32", adapter=one)
    ours, theirs = (
        each.generate("3+4=", max_new_tokens=8, record=True) for each in (tuned, merged)
    )
    assert ours.token_ids == theirs.token_ids
    torch.testing.assert_close(ours.logprobs, theirs.logprobs, **CLOSE)
    # The cache of a reply holds the adapter's keys: recorded at once, they are the same.
    again = tuned.record([*ours.prompt_ids, *ours.token_ids])
    name = "blocks.2.attn.hook_rot_k"
    torch.testing.assert_close(ours.recording[name], again[name], **CLOSE)
    chats = [each.chat("3+4=?", max_new_tokens=6, seed=0) for each in (tuned, merged)]
    assert chats[0].token_ids == chats[1].token_ids


def test_prompts_of_unequal_length_are_recorded_as_alone(both):
    tuned = both[0].adapters.on("one")
    batch = tuned.record_batch([IDS, IDS[:2]])
    for found, ids in zip(batch, (IDS, IDS[:2]), strict=True):
        torch.testing.assert_close(found.logits, tuned.record(ids).logits, **CLOSE)


class Failure(Exception):
    pass


@pytest.mark.parametrize("error", [Failure, KeyboardInterrupt])
def test_the_base_model_is_the_same_to_the_bit_after_a_run_that_fails(both, error):
    lab = both[0]
    tuned, before = lab.adapters.on("one"), {n: p.clone() for n, p in lab.model.named_parameters()}
    expected = lab.record(IDS).logits

    def fail(value, name):
        raise error

    with pytest.raises(error):
        tuned.record(IDS, edits={"blocks.1.hook_resid_post": fail})
    tuned.generate(IDS, max_new_tokens=2)
    assert all(torch.equal(p, before[n]) for n, p in lab.model.named_parameters())
    assert torch.equal(lab.record(IDS).logits, expected)


def test_threads_that_record_with_and_without_an_adapter_do_not_disturb_each_other(both):
    lab = both[0]
    labs = [lab, lab.adapters.on("one")]
    alone, found = [each.record(IDS).logits for each in labs], [[], []]

    def run(index):
        for _ in range(5):
            found[index].append(labs[index].record(IDS).logits)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for expected, each in zip(alone, found, strict=True):
        assert len(each) == 5
        assert all(torch.equal(expected, logits) for logits in each)


def test_a_recording_says_which_adapter_was_in_force(both, tmp_path):
    lab = both[0]
    recording = lab.adapters.on({"one": 0.5}).record(IDS)
    described = "LoRA adapter 0.5 x one (rank 4, alpha 8, on 12 tensors: q_proj, v_proj)"
    assert recording.adapter.startswith(described.replace("12", str(2 * lab.config.n_layers)))
    assert lab.adapters.on({"one": 0.5}).stored_as == recording.adapter
    assert lab.record(IDS).adapter == lab.stored_as == ""
    recording.save(tmp_path / "run.safetensors")
    assert qwen3lab.Recording.load(tmp_path / "run.safetensors").adapter == recording.adapter
    lab.adapters.on("one").record_to_disk([IDS], tmp_path / "disk", progress=False)
    for other in (lab, lab.adapters.on({"one": 0.5}), lab.adapters.on("two")):
        with pytest.raises(RecordingError, match="different: model, weights"):
            other.record_to_disk([IDS], tmp_path / "disk", progress=False)


def test_a_streamed_model_takes_adapters_that_are_kept_apart(moe, tmp_path):
    saved(
        tmp_path,
        "tiny-moe",
        r=2,
        lora_alpha=6,
        target_modules=["q_proj", "gate_proj", "up_proj", "down_proj"],
    )
    moe.adapters.add("everything", tmp_path)
    streamed = qwen3lab.load("tiny-moe", device="cpu", dtype="float32", memory="45MB")
    streamed.adapters.add("everything", tmp_path)
    tuned = streamed.adapters.on("everything")
    assert tuned.model.blocks.is_streamed
    expected = moe.adapters.on("everything").record(IDS).logits
    torch.testing.assert_close(tuned.record(IDS).logits, expected, **CLOSE)
    torch.testing.assert_close(streamed.record(IDS).logits, moe.record(IDS).logits, **CLOSE)
    marks = {fingerprint(tuned.model), fingerprint(streamed.model)}
    marks.add(fingerprint(streamed.adapters.on({"everything": 0.5}).model))
    assert len(marks) == 3


def test_a_model_with_adapters_beside_its_weights_is_not_saved(both, tmp_path):
    from qwen3lab.checkpoints import save_checkpoint

    with pytest.raises(CheckpointError, match="adapters beside its weights"):
        save_checkpoint(both[0].adapters.on("one").model, tmp_path)


def test_adapters_that_do_not_fit_are_refused(both, moe, tmp_path):
    lab, one, two = both
    with pytest.raises(CheckpointError, match=r"there is no adapter 'three'.*'one', 'two'"):
        lab.adapters.on("three")
    with pytest.raises(CheckpointError, match="is an adapter 'one' already"):
        lab.adapters.add("one", one)
    with pytest.raises(CheckpointError, match="another base model"):
        moe.adapters.add("dense", two)
    with pytest.raises(CheckpointError, match="no adapter is named"):
        lab.adapters.on([])
    with pytest.raises(ValueError, match="a layer is 99"):
        lab.adapters.on("one", layers=[99])
    saved(tmp_path / "dora", **KINDS["dora"])
    lab.adapters.add("dora", tmp_path / "dora")
    with pytest.raises(CheckpointError, match=r"both change .*by DoRA or as a whole"):
        lab.adapters.on(["two", "dora"])
    lab.adapters.remove("dora")
    assert list(lab.adapters) == ["one", "two"]


def test_a_quantised_model_takes_adapters_that_are_kept_apart(plain):
    pytest.importorskip("torchao")
    lab = qwen3lab.load("tiny-dense", device="cpu", quantise="int8")
    lab.adapters.add("one", plain[0])
    hooks = ["blocks.0.ln1.hook_normalized", "blocks.0.attn.hook_q"]
    base, tuned = (each.record(IDS, capture=hooks) for each in (lab, lab.adapters.on("one")))
    tensors = load_file(plain[0] / "adapter_model.safetensors")
    a, b = (tensors[f"{Q_PROJ}.lora_{part}.weight"] for part in "AB")
    read = base[hooks[0]] * lab.model.blocks[0].ln1.weight.detach().float()
    added = (read @ a.T @ b.T) * (8 / 4)  # alpha / r
    found = (tuned[hooks[1]] - base[hooks[1]]).flatten(1)
    # The lab computes in bfloat16.
    torch.testing.assert_close(found, added, atol=0.02 * float(base[hooks[1]].abs().max()), rtol=0)
    assert float(added.abs().max()) > 0.05 * float(base[hooks[1]].abs().max())
