"""A streamed model computes the same values as one in memory, and survives disk errors."""

import os
import threading

import pytest
import torch
from safetensors.torch import load_file, save_file

from qwen3lab.checkpoints.writer import save_checkpoint
from qwen3lab.errors import CheckpointError
from qwen3lab.generation.sampling import Sampling
from qwen3lab.hooks.points import hook_names
from qwen3lab.hooks.taps import Keep
from qwen3lab.lab import Lab, load
from qwen3lab.loading import load_model
from qwen3lab.model.kv_cache import KVCache
from qwen3lab.model.transformer import Qwen3
from qwen3lab.streaming.streamed_model import StreamedBlocks, bytes_of, least_memory
from qwen3lab.streaming.weight_cache import WeightCache
from tests.reference import CASES, gap, hf_random, small_config, tokens


@pytest.fixture(autouse=True)
def few_pages(monkeypatch):
    """Without read buffers, the minimum memory is that of the small weights here."""
    monkeypatch.setattr("qwen3lab.streaming.streamed_model.CHUNK_BYTES", 0)


def least(folder, dtype=torch.float32):
    return least_memory(load_model(folder).config, dtype)


def streamed(folder, *, more=0, **options):
    """A model with `more` bytes of memory than the minimum."""
    return load_model(folder, memory=least(folder) + more, **options)


def weight_cache(model) -> WeightCache:
    assert isinstance(model.blocks, StreamedBlocks)
    return model.blocks.weight_cache


def forward(model, ids=None, **options):
    ids = tokens(vocab=model.config.d_vocab) if ids is None else ids
    with torch.no_grad():
        return model(ids, **options)


def hf_logits(name):
    with torch.no_grad():
        return hf_random(name)(tokens()).logits


@pytest.mark.parametrize("more", [0, 100_000, 10**9])
@pytest.mark.parametrize("name", CASES)
def test_a_streamed_model_matches_transformers_with_any_cache_size(saved, name, more):
    model = streamed(saved[name], more=more)
    expected = hf_logits(name)
    for _ in range(2):  # The second pass uses units cached by the first.
        assert gap(forward(model), expected) < 1e-5
    assert (weight_cache(model).kept_bytes > 0) == (more > 0)


def big_experts(n_layers=3):
    """Experts too large to be padded, as all published ones are: whole models loop, too."""
    config = small_config(n_layers=n_layers, d_model=256, d_expert=272, moe_layers=(1, 2))
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(0))
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("big-experts")
    save_checkpoint(big_experts(), folder)
    return folder


def test_every_activation_is_bitwise_equal_to_the_model_in_memory(folder):
    whole, part = load_model(folder), streamed(folder, more=3_000_000)
    ids = torch.randint(0, 50, (2, 9), generator=torch.Generator().manual_seed(1))
    names = [name for name in hook_names(whole.config) if "pattern" not in name]
    kept, again = Keep(names), Keep(names)
    forward(whole, ids, tap=kept)
    forward(part, ids, tap=again)
    assert set(kept.kept) == set(names)
    assert all(torch.equal(kept.kept[name], again.kept[name]) for name in names)
    assert 0 < weight_cache(part).kept_bytes <= 3_000_000


def test_a_long_prompt_is_bitwise_equal_to_the_model_in_memory(folder, monkeypatch):
    """Long enough for outputs to be added up expert by expert."""
    monkeypatch.setattr("qwen3lab.model.experts.MAX_BATCHED_TOKENS_PER_EXPERT", 2)
    monkeypatch.delattr("qwen3lab.model.experts.dispatch")
    whole, part = load_model(folder), streamed(folder)
    ids = torch.randint(0, 50, (2, 9), generator=torch.Generator().manual_seed(1))
    assert torch.equal(forward(whole, ids), forward(part, ids))


def test_only_chosen_experts_are_read(folder):
    model = streamed(folder)
    taken = Keep(["blocks.1.mlp.hook_expert_indices", "blocks.2.mlp.hook_expert_indices"])
    forward(model, torch.tensor([[3]]), tap=taken)
    assert all(value.numel() == 2 for value in taken.kept.values())
    in_blocks = sum(
        p.numel() for n, p in big_experts().blocks.named_parameters() if ".gate_up" not in n
    )
    experts = 2 * 8 * 256 * 272  # The down matrices, which stand among the others so far.
    assert weight_cache(model).bytes_read == 4 * (in_blocks - experts + 2 * 2 * 3 * 256 * 272)


def test_kept_units_are_not_read_again(folder):
    model = streamed(folder, more=10**9)
    forward(model)
    read = weight_cache(model).bytes_read
    assert read == weight_cache(model).kept_bytes
    forward(model)
    assert weight_cache(model).bytes_read == read


def test_weights_in_memory_stay_below_the_limit(folder):
    model = streamed(folder, more=3_000_000)
    for _ in range(3):
        forward(model)
    held = [future.result() for future in weight_cache(model)._kept.values()]
    free = [unit for units in weight_cache(model)._free_buffers.values() for unit in units]
    blocks = sum(value.nbytes for unit in (*held, *free) for value in unit.values())
    outer = sum(parameter.nbytes for parameter in model.parameters())
    assert outer + blocks <= least(folder) + 3_000_000


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_are_converted_to_the_requested_dtype(folder, dtype):
    memory = least(folder, getattr(torch, dtype)) + 10**6
    part = load_model(folder, memory=memory, dtype=dtype)
    assert forward(part).dtype == getattr(torch, dtype)
    assert torch.equal(forward(part), forward(load_model(folder, dtype=dtype)))


def test_fused_experts_are_read_one_at_a_time(tmp_path):
    hf = hf_random("experts")
    hf.config.save_pretrained(tmp_path)
    fused = {name: value.contiguous() for name, value in hf.state_dict().items()}
    assert any("experts.gate_up_proj" in name for name in fused)
    save_file(fused, tmp_path / "model.safetensors")
    assert gap(forward(streamed(tmp_path)), hf_logits("experts")) < 1e-5


def test_files_are_read_in_chunks(folder, monkeypatch):
    monkeypatch.setattr("qwen3lab.checkpoints.safetensors_file.CHUNK_BYTES", 4096)
    assert torch.equal(forward(streamed(folder)), forward(load_model(folder)))


def lab_of(model, tiny_tokenizer):
    return Lab(model, tiny_tokenizer, "small")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory, tiny_tokenizer):
    """A random model with the embedded models' vocabulary, whole and streamed."""
    folder = tmp_path_factory.mktemp("spoken")
    model = Qwen3(small_config(d_vocab=len(tiny_tokenizer), n_ctx=512))
    model.init_weights(torch.Generator().manual_seed(0), std=0.2)
    save_checkpoint(model, folder)
    return folder


def test_recording_edits_and_generation_match_the_model_in_memory(spoken, tiny_tokenizer):
    whole = lab_of(load_model(spoken), tiny_tokenizer)
    part = lab_of(streamed(spoken, more=30_000), tiny_tokenizer)
    prompts = ["3+4=?", "Ann has the key."]
    edits = {"blocks.1.hook_mlp_out": lambda value, name: 0.5 * value}
    for mine, theirs in zip(
        part.record_batch(prompts, edits=edits, capture="blocks.*.hook_resid_post"),
        whole.record_batch(prompts, edits=edits, capture="blocks.*.hook_resid_post"),
        strict=True,
    ):
        assert mine.capture == theirs.capture
        for name in mine.capture:
            torch.testing.assert_close(mine[name], theirs[name], rtol=1e-4, atol=1e-5)
    options = {"sampling": Sampling.greedy(), "max_new_tokens": 12, "thinking": False}
    assert part.chat("3+4=?", **options).answer == whole.chat("3+4=?", **options).answer
    assert "streamed" in repr(part) and "streamed" not in repr(whole)


def test_decoding_with_a_kv_cache_matches_prefill(folder):
    model, ids = streamed(folder), torch.arange(6)[None]
    cache = KVCache(model.config)
    forward(model, ids[:, :4], cache=cache)
    torch.testing.assert_close(forward(model, ids[:, 4:], cache=cache), forward(model, ids)[:, 4:])


def test_an_indexed_block_has_its_weights(folder):
    whole, part = load_model(folder), streamed(folder)
    assert len(part.blocks) == 3
    for layer in (1, -1):
        torch.testing.assert_close(
            part.blocks[layer].attn.q.weight, whole.blocks[layer].attn.q.weight
        )
    forward(part)
    held = part.blocks[0].ln1.weight
    assert torch.equal(held, whole.blocks[0].ln1.weight), "the copy must own its memory"


def test_a_block_has_no_weights_after_its_turn(folder):
    model = streamed(folder)
    forward(model)
    blocks = model.blocks._bare
    assert all(p.device.type == "meta" for block in blocks for p in block.parameters())


def test_a_file_that_returns_is_read_again_but_a_truncated_one_is_refused(folder, tmp_path):
    whole, away = tmp_path / "model.safetensors", tmp_path / "away"
    whole.write_bytes((folder / whole.name).read_bytes())
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    model = streamed(tmp_path)
    expected, content = forward(model), whole.read_bytes()

    class Changing(Keep):
        def __init__(self, change):
            super().__init__([])
            self.change = change

        def __call__(self, name, value):
            if name == "blocks.1.hook_resid_mid":
                self.change()
            return value

    with pytest.raises(CheckpointError, match=r"can no longer be read .* check that the disk"):
        forward(model, tap=Changing(lambda: whole.rename(away)))
    away.rename(whole)
    assert torch.equal(forward(model), expected)

    with pytest.raises(CheckpointError, match=r"has changed since .* load the model again"):
        forward(model, tap=Changing(lambda: os.truncate(whole, len(content) // 2)))


def test_after_an_interrupt_the_model_still_works(folder):
    model = streamed(folder)
    expected = forward(model)

    class Interrupting(Keep):
        def __call__(self, name, value):
            if name == "blocks.1.mlp.hook_expert_out":
                raise KeyboardInterrupt
            return value

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            forward(model, tap=Interrupting([]))
    assert torch.equal(forward(model), expected)
    free = weight_cache(model)._free_buffers.values()
    assert max(len(units) for units in free) <= 2, "interrupts must not leak buffers"
    readers = [t for t in threading.enumerate() if t.name.startswith("qwen3lab-weights")]
    assert all(t.is_alive() for t in readers)


def test_an_interrupt_within_an_expert_releases_its_weights(folder, monkeypatch):
    model = streamed(folder)

    def interrupted(weights, *_):
        if weights.shape[-1] == 2 * model.config.d_expert:
            raise KeyboardInterrupt
        return weights.chunk(2, dim=-1)[0]

    monkeypatch.setattr("qwen3lab.model.experts.swiglu", interrupted)
    ids = torch.randint(0, 50, (2, 9), generator=torch.Generator().manual_seed(1))
    with pytest.raises(KeyboardInterrupt) as held:
        forward(model, ids)
    in_use = {key: n for key, n in weight_cache(model)._in_use.items() if key[1] >= 0}
    assert held.tb is not None and in_use and not any(in_use.values())


def test_too_little_memory_is_refused_with_the_minimum(folder):
    with pytest.raises(CheckpointError, match=r"memory is 0\.00 GB, and .* needs 0\.\d\d GB in fl"):
        load_model(folder, memory=least(folder) - 1)
    assert isinstance(load_model(folder, memory=least(folder)).blocks, StreamedBlocks)


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("8GB", 8e9), ("1.5 GiB", 1.5 * 2**30), ("500mb", 5e8), ("64 KiB", 65536), (123, 123)],
)
def test_sizes_are_parsed_with_their_unit(text, n_bytes):
    assert bytes_of(text) == n_bytes


@pytest.mark.parametrize(
    "text", ["much", "8", "-1GB", "0GB", 0, -5, "8 GB more", "1e9B", "9" * 400 + "GB"]
)
def test_an_invalid_size_is_refused(text):
    with pytest.raises(CheckpointError, match="expected a size such as '8GB'"):
        bytes_of(text)


def test_an_embedded_model_can_be_streamed(monkeypatch):
    whole, part = load("tiny-moe"), load("tiny-moe", memory="7MB")
    options = {"sampling": Sampling.greedy()}
    assert part.chat("3+4*2=?", **options).text == whole.chat("3+4*2=?", **options).text


def test_a_missing_tensor_is_named_before_anything_is_read(folder, tmp_path):
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.2.mlp.experts.5.up_proj.weight"]
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"layers\.2\.mlp\.experts\.5\.up_proj.* is missing"):
        load_model(tmp_path, memory="1GB")
