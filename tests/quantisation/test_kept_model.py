"""Models whose weights stay packed: those of the decoded model, in the memory of the packed one."""

import copy
import json
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import qwen3lab
from qwen3lab.checkpoints import save_checkpoint
from qwen3lab.checkpoints.embedded import EMBEDDED
from qwen3lab.checkpoints.folder_contents import open_tensors_of
from qwen3lab.checkpoints.packed_tensors import PackedSource, kept_bytes
from qwen3lab.checkpoints.tensor_names import published_tensors
from qwen3lab.config.catalog import PUBLISHED
from qwen3lab.config.placement import choose
from qwen3lab.errors import CheckpointError
from qwen3lab.loading import load_model, placement_of
from qwen3lab.model.transformer import Qwen3
from qwen3lab.quantisation import quantisation_of
from qwen3lab.quantisation.kept_model import Kept, KeptForCpu
from qwen3lab.quantisation.packed_matrices import PackedMatrices
from tests.checkpoints.formats import writers
from tests.checkpoints.formats.writers import WRITERS, quantised
from tests.checkpoints.test_gguf import write_gguf

IDS = [5, 60, 7, 812, 9, 33]
SINGLE = "model.safetensors"
gguf = pytest.importorskip("gguf")
EXACT, FAST = {"dtype": "float32"}, {"dtype": "bfloat16"}


@pytest.fixture(scope="module", params=["tiny-dense", "tiny-moe"])
def named(request):
    return request.param


@pytest.fixture(scope="module")
def source(named, tmp_path_factory):
    folder = tmp_path_factory.mktemp(named) / "source"
    folder.mkdir()
    for path in (EMBEDDED / named).iterdir():
        if path.suffix == ".json" or path.name == SINGLE:
            shutil.copyfile(path, folder / path.name)
    return folder


@pytest.fixture(scope="module")
def in_groups_of_32(source):
    """A GPTQ model whose groups torch's int4 kernel takes, and its decoded copy."""
    method, target = "gptq", source.parent / "gptq-32"
    write, fields = WRITERS[method]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writers, "GROUP", 32)
        patch.setitem(WRITERS, method, (write, {**fields, "group_size": 32}))
        return target, quantised(source, target, method)


def opened(folder, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*was decoded from FP8")
        return qwen3lab.load(folder, device="cpu", **options)


def matrices_of(model):
    return [each for each in model.modules() if isinstance(each, PackedMatrices)]


def matrices_in_blocks(model):
    """Every attention and MLP matrix of a model, decoded."""
    for layer in range(model.config.n_layers):
        block = model.blocks[layer]
        for name in "qkvo":
            yield getattr(block.attn, name).weight.detach()
        for name in ("gate", "up", "down") if not model.config.is_moe else ():
            yield getattr(block.mlp, name).weight.detach()
        for stack in (block.mlp.gate_up, block.mlp.down) if model.config.is_moe else ():
            is_packed = isinstance(stack, PackedMatrices)
            yield from (stack.dequantise(e) if is_packed else stack[e].detach() for e in range(16))


def check_same_weights(kept, decoded):
    pairs = zip(matrices_in_blocks(kept), matrices_in_blocks(decoded), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    theirs = dict(decoded.named_parameters())
    assert all(torch.equal(value, theirs[name]) for name, value in kept.named_parameters())


@pytest.mark.parametrize("method", WRITERS)
def test_weights_are_those_of_the_decoded_model_to_the_bit(source, method, tmp_path):
    plain = quantised(source, tmp_path / method, method)
    kept = opened(tmp_path / method, quantise="keep", **EXACT)
    assert matrices_of(kept.model) and all(type(m) is Kept for m in matrices_of(kept.model))
    check_same_weights(kept.model, load_model(plain, dtype="float32"))
    theirs = AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = theirs(torch.tensor([IDS])).logits[0]
    assert float((kept.record(IDS).logits - expected).abs().max()) < 1e-4
    in_half = opened(tmp_path / method, quantise="keep", **FAST)
    if method != "mlx":  # Its groups are of 32 inputs, which the kernel takes.
        check_same_weights(in_half.model, load_model(plain, dtype="bfloat16"))


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0", "Q5_1"])
def test_gguf_weights_are_those_of_the_decoded_file_to_the_bit(named, kind, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", named, kind=gguf.GGMLQuantizationType[kind])
    kept = opened(path, quantise="keep", **EXACT)
    assert all(type(each) is Kept for each in matrices_of(kept.model))
    check_same_weights(kept.model, opened(path, **EXACT).model)
    assert f"kept GGUF, {kind}" in repr(kept) and "error" not in repr(kept)


def test_on_a_cpu_groups_are_multiplied_by_the_int4_kernel(in_groups_of_32):
    packed, plain = in_groups_of_32
    kept, exact = opened(packed, quantise="keep"), opened(plain, **EXACT)
    assert kept.model.dtype == torch.bfloat16
    assert {type(each) for each in matrices_of(kept.model)} == {KeptForCpu}
    pairs = zip(matrices_in_blocks(kept.model), matrices_in_blocks(exact.model), strict=True)
    for ours, theirs in pairs:
        error = (ours.float() - theirs).norm() / theirs.norm()
        assert float(error) < 2**-7  # Rounding of scales, offsets and weights: three times 2^-9.
    found = quantisation_of(kept.model)
    assert found is not None and found.kind == "kept" and 0 < found.error < 2**-7
    text = "kept GPTQ, 4 bits in groups of 32, relative weight error 0."
    assert text in repr(kept) and "bfloat16, kept" in repr(kept)
    matrix, x = matrices_of(kept.model)[0], torch.randn(3, 128).bfloat16()
    product = x.double() @ matrix.dequantise().double().T
    assert float((matrix.matmul(x) - product).abs().max()) < 0.02 * float(product.abs().max())


def test_the_kernel_computes_what_the_decoded_model_computes(in_groups_of_32):
    packed, plain = in_groups_of_32
    kept, half = opened(packed, quantise="keep"), opened(plain, **FAST)
    exact = opened(plain, **EXACT).record(IDS).logits
    lost, lost_in_half = ((lab.record(IDS).logits - exact).abs().mean() for lab in (kept, half))
    assert float(lost) < 4 * float(lost_in_half)


def test_memory_is_that_of_the_packed_tensors(in_groups_of_32):
    packed, _ = in_groups_of_32
    stored = {
        name: value
        for name, value in load_file(packed / SINGLE).items()
        if name.endswith((".qweight", ".qzeros", ".scales", ".g_idx"))
    }
    kept = opened(packed, quantise="keep", **EXACT)
    held = [value for each in matrices_of(kept.model) for value in each.buffers()]
    assert sum(v.nbytes for v in held) == sum(v.nbytes for v in stored.values())
    kernel = opened(packed, quantise="keep")
    values = sum(v.numel() for v in matrices_in_blocks(kernel.model))
    held = [value for each in matrices_of(kernel.model) for value in each.buffers()]
    assert sum(v.nbytes for v in held) == values // 2 + values // 32 * 4


def test_a_matrix_that_is_not_packed_stays_as_it_is(in_groups_of_32, tmp_path, named):
    packed, plain = in_groups_of_32
    mixed = shutil.copytree(packed, tmp_path / "mixed")
    inner = "mlp.experts.3.up_proj" if named == "tiny-moe" else "self_attn.q_proj"
    module = f"model.layers.1.{inner}"
    tensors = {n: v for n, v in load_file(packed / SINGLE).items() if not n.startswith(module)}
    name = f"{module}.weight"
    tensors[name] = load_file(plain / SINGLE)[name]
    save_file(tensors, mixed / SINGLE, {"format": "pt"})
    for options in (EXACT, FAST):
        kept = opened(mixed, quantise="keep", **options)
        if options is EXACT:
            check_same_weights(kept.model, load_model(plain, dtype="float32"))
        assert torch.isfinite(kept.record(IDS).logits).all()


def test_adapters_beside_kept_weights_compute_what_they_do_beside_decoded_ones(
    in_groups_of_32, tmp_path
):
    packed, _ = in_groups_of_32
    labs = [opened(packed, quantise="keep", **EXACT), opened(packed, **EXACT)]
    folder = tmp_path / "adapter"
    folder.mkdir()
    module = "base_model.model.model.layers.2.self_attn.q_proj"
    generator = torch.Generator().manual_seed(0)
    save_file(
        {
            f"{module}.lora_A.weight": torch.randn(4, 128, generator=generator),
            f"{module}.lora_B.weight": torch.randn(128, 4, generator=generator),
        },
        folder / "adapter_model.safetensors",
    )
    fields = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    logits = []
    for lab in labs:
        lab.adapters.add("a", folder)
        logits.append(lab.adapters.on("a").record(IDS).logits)
        assert float((logits[-1] - lab.record(IDS).logits).abs().max()) > 0.1
    assert float((logits[0] - logits[1]).abs().max()) < 1e-4
    with pytest.raises(CheckpointError, match=r"stay packed: .*lab\.adapters"):
        opened(packed, quantise="keep", adapter=folder)


def test_a_copy_computes_the_same(in_groups_of_32):
    kept = opened(in_groups_of_32[0], quantise="keep", **EXACT)
    copied = copy.deepcopy(kept)
    assert torch.equal(copied.record(IDS).logits, kept.record(IDS).logits)


def test_a_limit_of_memory_keeps_packed_what_does_not_fit_decoded(in_groups_of_32):
    packed, _ = in_groups_of_32
    options = {"device": torch.device("cpu"), "dtype": torch.float32, "quantise": None}
    whole = placement_of(packed, "24GB", **options)
    assert whole.way == "whole"
    weights = open_tensors_of(packed)
    assert isinstance(weights, PackedSource)
    kept = kept_bytes(weights, torch.float32)
    assert kept < whole.weights
    found = placement_of(packed, kept + whole.room, **options)
    assert found.way == "kept" and found.weights == kept
    assert placement_of(packed, kept + whole.room - 1, **options).way == "streamed"
    lab = opened(packed, memory=kept + whole.room, **EXACT)
    assert lab.placed.startswith("kept packed as they are stored, ")
    assert "float32, kept" in repr(lab)


def test_what_cannot_be_kept_is_refused(in_groups_of_32, source, tmp_path):
    with pytest.raises(CheckpointError, match=r"not packed, so .*nothing to keep"):
        opened(source, quantise="keep")
    packed, _ = in_groups_of_32
    lab = opened(packed, quantise="keep")
    with pytest.raises(CheckpointError, match="its files hold it as it is: copy them"):
        save_checkpoint(lab.model, tmp_path / "saved")
    broken = shutil.copytree(packed, tmp_path / "broken")
    tensors = load_file(packed / SINGLE)
    first = min(name for name in tensors if name.endswith(".scales"))
    tensors[first][0, 0] = float("nan")
    save_file(tensors, broken / SINGLE, {"format": "pt"})
    for options in (EXACT, FAST):
        with pytest.raises(CheckpointError, match=r"blocks\.0\..*NaN"):
            opened(broken, quantise="keep", **options)
    with pytest.raises(CheckpointError, match=r"quantise is 'kept'.*or keep"):
        opened(packed, quantise="kept")
    with pytest.raises(CheckpointError, match="cannot be combined"):
        load_model(packed, quantise="keep", memory="1GB")
    path = write_gguf(tmp_path / "m.gguf", "tiny-dense", kind=gguf.GGMLQuantizationType.F16)
    with pytest.raises(CheckpointError, match="holds GGUF, F16, and none of it can stay packed"):
        opened(path, quantise="keep")


class Published:
    """Names, shapes and sizes of a four-bit release, as GPTQ stores it in groups of 128."""

    described = "GPTQ"

    def __init__(self, config):
        self.shapes = {
            published: tuple(value.shape)
            for name, parameter in Qwen3(config, device="meta").named_parameters()
            for published, value in published_tensors(name, parameter)
        }

    def names(self):
        return set(self.shapes)

    def shape(self, name):
        return self.shapes[name]

    def packed_bytes(self, name):
        if not name.endswith("_proj.weight"):
            return None
        n_out, n_in = self.shapes[name]
        groups = n_in // 128
        return n_out * n_in // 2 + groups * n_out // 2 + 2 * groups * n_out + 4 * n_in


def test_the_largest_mixture_for_one_gpu_fits_into_24_gb():
    config = PUBLISHED["Qwen/Qwen3-30B-A3B"]
    kept = kept_bytes(Published(config), torch.bfloat16)
    assert 16.5e9 < kept < 17.5e9
    found = choose(config, 24 * 10**9, kept=kept)
    assert found.way == "kept"
    assert found.sentence.startswith("kept packed as they are stored, 17")


@pytest.fixture
def gpu():
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return "cuda"


@pytest.mark.gpu
@pytest.mark.parametrize("method", WRITERS)
def test_a_gpu_decodes_the_same_weights(gpu, source, method, tmp_path):
    plain = quantised(source, tmp_path / method, method)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*was decoded from FP8")
        kept = load_model(tmp_path / method, quantise="keep", dtype="float32", device=gpu)
    decoded = load_model(plain, dtype="float32")
    pairs = zip(matrices_in_blocks(kept), matrices_in_blocks(decoded), strict=True)
    assert all(torch.equal(ours.cpu(), theirs) for ours, theirs in pairs)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0", "Q5_1"])
def test_a_gpu_decodes_the_same_rows(gpu, named, kind, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", named, kind=gguf.GGMLQuantizationType[kind])
    kept = qwen3lab.load(path, quantise="keep", dtype="float32", device=gpu)
    decoded = opened(path, **EXACT)
    pairs = zip(matrices_in_blocks(kept.model), matrices_in_blocks(decoded.model), strict=True)
    assert all(torch.equal(ours.cpu(), theirs) for ours, theirs in pairs)
