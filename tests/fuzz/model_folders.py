"""Tiny model folders, as bytes by file name, and the one check of what loading them gives."""

import json
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
from transformers.utils import logging

from qwen3lab.hooks.taps import Keep
from qwen3lab.loading import load_model
from tests.fuzz.cases import refusable

Files = Mapping[str, bytes]

CONFIG = "config.json"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "intermediate_size": 24,
    "vocab_size": 60,
    "max_position_embeddings": 64,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
}
EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "norm_topk_prob": True,
}
BASES: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": ("qwen3", SIZES),
    "tied": ("qwen3", SIZES | {"tie_word_embeddings": True}),
    "experts": ("qwen3_moe", SIZES | EXPERTS),
}
IDS = torch.randint(1, 40, (1, 40), generator=torch.Generator().manual_seed(5))
MAX_GAP = 1e-4
LABELS = [
    *("architectures", "attention_dropout", "bos_token_id", "eos_token_id", "pad_token_id"),
    *("id2label", "label2id", "problem_type", "chunk_size_feed_forward", "return_dict"),
    *("initializer_range", "is_encoder_decoder", "max_window_layers", "sliding_window"),
    *("output_attentions", "output_hidden_states", "output_router_logits", "use_cache"),
    *("router_aux_loss_coef", "tokenizer_class", "transformers_version", "_name_or_path"),
    *("name_or_path", "use_return_dict", "_attn_implementation", "_attn_implementation_autoset"),
]
WRAPPERS = ("module.", "_orig_mod.", "base_model.model.")
MAX_SECONDS, MAX_GROWTH_KIB = 3.0, 96 * 1024


@cache
def base(name: str) -> Files:
    """The files of a random model, as `save_pretrained` of transformers writes them."""
    kind, fields = BASES[name]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **fields))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn * 0.2 if parameter.ndim > 1 else 1 + 0.3 * drawn)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@cache
def tensors(name: str) -> dict[str, Tensor]:
    """The tensors of a base folder by their stored names."""
    return load(base(name)[SINGLE])


def with_tensors(files: Files, changed: Mapping[str, Tensor]) -> dict[str, bytes]:
    """A folder with other tensors in its one file."""
    return {**files, SINGLE: stored(changed)}


def stored(values: Mapping[str, Tensor]) -> bytes:
    """A safetensors file."""
    return save(
        {name: value.clone().contiguous() for name, value in values.items()}, {"format": "pt"}
    )


def with_json(files: Files, file: str, document: Any) -> dict[str, bytes]:
    """A folder in which a file holds a JSON document."""
    return {**files, file: json.dumps(document).encode("utf-8", errors="surrogatepass")}


@cache
def sharded(name: str) -> Files:
    """A base folder with its tensors in three shards and an index."""
    values, files = tensors(name), dict(base(name))
    del files[SINGLE]
    where = {n: f"model-{i % 3 + 1:05d}-of-00003.safetensors" for i, n in enumerate(sorted(values))}
    for file in set(where.values()):
        files[file] = stored({n: value for n, value in values.items() if where[n] == file})
    total = sum(value.nbytes for value in values.values())
    return with_json(files, INDEX, {"metadata": {"total_size": total}, "weight_map": where})


@contextmanager
def written(files: Files) -> Iterator[Path]:
    """The files in a folder of their own, which is checked to be unchanged, and then removed."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        for name, data in files.items():
            (folder / name).write_bytes(data)
        yield folder
        assert sorted(path.name for path in folder.iterdir()) == sorted(files)
    finally:
        shutil.rmtree(folder)


def check_loading(files: Files) -> None:
    """Check what loading a folder in float32 gives: the logits of transformers, or a refusal.

    - Where transformers loads the folder, the logits are the same. A warning excuses no difference.
    - Where transformers refuses it, they are those that it gives for `without_labels`.
    - A refusal names the folder, and neither takes long nor much memory.
    """
    with written(files) as folder:
        with refusable() as outcome, bounded():
            outcome.value = _our_logits(folder)
        if outcome.refusal is not None:
            assert str(folder) in outcome.refusal, outcome.refusal
            return
    files = without_wrappers(files)
    theirs = their_logits(files)
    if theirs is None:
        theirs = their_logits(without_labels(files))
    assert theirs is not None, "transformers refuses the folder"
    if outcome.value.shape != theirs.shape:  # A model without unembedding.
        theirs = their_states(files)
    assert gap(outcome.value, theirs) <= MAX_GAP, "the logits are not those of transformers"


@contextmanager
def bounded() -> Iterator[None]:
    """Checks that little time and little memory is taken."""
    started, peak = time.process_time(), _peak_kib()
    try:
        yield
    finally:
        seconds, growth = time.process_time() - started, _peak_kib() - peak
        assert seconds < MAX_SECONDS, f"took {seconds:.1f} seconds"
        assert growth < MAX_GROWTH_KIB, f"took {growth} KiB"


def _peak_kib() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak  # There it is counted in bytes.


@torch.no_grad()
def _our_logits(folder: Path) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load_model(folder, dtype="float32")
        if model.config.has_unembedding:
            return model(IDS)
        kept = Keep(["ln_final.hook_normalized"])
        model(IDS, tap=kept)
        return kept.kept["ln_final.hook_normalized"] * model.ln_final.weight


def without_wrappers(files: Files) -> Files:
    """The folder without prefixes of training tools, where all names have the same ones."""
    if SINGLE not in files:
        return files
    try:
        values = load(files[SINGLE])
    except Exception:  # What the safetensors library refuses has no names.
        return files
    while prefix := next(
        (p for p in WRAPPERS if values and all(n.startswith(p) for n in values)), ""
    ):
        values = {name.removeprefix(prefix): value for name, value in values.items()}
    return with_tensors(files, values) if values.keys() != load(files[SINGLE]).keys() else files


def without_labels(files: Files) -> Files:
    """The folder without fields that transformers checks, and that change no activation.

    It refuses a whole number where it expects a fraction, too, and an index without metadata.
    """
    if INDEX in files:
        files = with_json(files, INDEX, json.loads(files[INDEX]) | {"metadata": {}})
    fields = json.loads(files[CONFIG])
    fields = {key: value for key, value in fields.items() if key not in LABELS}
    if type(eps := fields.get("rms_norm_eps")) is int:
        fields["rms_norm_eps"] = float(eps)
    return with_json(files, CONFIG, fields)


_THEIRS: dict[bytes, Tensor | None] = {}


def their_logits(files: Files) -> Tensor | None:
    """The logits of transformers, or None where it refuses the folder."""
    digest = sha256(repr(sorted(files.items())).encode()).digest()
    if digest not in _THEIRS:
        logging.set_verbosity(logging.CRITICAL)
        logging.disable_progress_bar()
        with written(files) as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                _THEIRS[digest] = _by_transformers(folder)
            except Exception:
                _THEIRS[digest] = None
    return _THEIRS[digest]


@torch.no_grad()
def _by_transformers(folder: Path) -> Tensor:
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=False, local_files_only=True
    )
    return model.eval()(IDS, use_cache=False).logits


@torch.no_grad()
def their_states(files: Files) -> Tensor:
    """The final hidden states of transformers' model without a head."""
    with written(files) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModel.from_pretrained(
            folder, dtype=torch.float32, trust_remote_code=False, local_files_only=True
        )
        return model.eval()(IDS, use_cache=False).last_hidden_state


def gap(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, divided by the largest reference value if that exceeds 1.

    Logits that overflow in the reference have to do so here, too.
    """
    assert ours.shape == theirs.shape, f"{tuple(ours.shape)} is not {tuple(theirs.shape)}"
    if not theirs.isfinite().all():
        return 0.0 if not ours.isfinite().all() else float("inf")
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1))
