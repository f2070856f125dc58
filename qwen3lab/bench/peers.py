"""The compared libraries behind one interface.

Each class loads the weights of a folder and has a method for each of its `cases`: "forward",
"record" (forward pass with attention and routing), "decode" and "decode_recording". qwen3lab and
`transformers` are always there; the other libraries take part if they are installed.
"""

from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from qwen3lab.acceleration.compiled_decoder import CompiledDecoder
from qwen3lab.acceleration.cuda_graph_decoder import decoder_for
from qwen3lab.bench.report import OURS
from qwen3lab.checkpoints.safetensors_reader import CheckpointReader
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.dtypes import DTYPES
from qwen3lab.generation.decoding import Decoder, decode
from qwen3lab.generation.sampling import Sampler, Sampling
from qwen3lab.hooks.points import resolve_hooks
from qwen3lab.hooks.taps import NO_TAP, Tap
from qwen3lab.loading import load_model
from qwen3lab.model.transformer import Qwen3
from qwen3lab.recording.recorder import ATTENTION, ROUTING, Recorder


class Ours:
    """qwen3lab: the computations of `lab.record` and `lab.chat`, without the tokenizer."""

    name = OURS
    cases = ("forward", "record", "decode", "decode_recording")

    def __init__(
        self,
        folder: Path,
        device: str,
        dtype: str,
        *,
        quantise: str | None = None,
        steps: Literal["default", "plain", "compiled"] = "default",
    ) -> None:
        self._use(load_model(folder, device=device, dtype=dtype, quantise=quantise), steps)

    @classmethod
    def of(cls, model: Qwen3) -> "Ours":
        """The same computations with a model that is in memory."""
        side = cls.__new__(cls)
        side._use(model, "default")
        return side

    def _use(self, model: Qwen3, steps: Literal["default", "plain", "compiled"]) -> None:
        self.model = model
        self.decoder: Decoder = self.model if steps == "plain" else decoder_for(self.model)
        if steps == "compiled" and self.decoder is self.model:
            self.decoder = CompiledDecoder(self.model)
        routing = ROUTING if self.model.config.is_moe else ()
        self.d_vocab = self.model.config.d_vocab
        self.hooks = resolve_hooks([*ATTENTION, *routing], self.model.config)
        self.stream = resolve_hooks("blocks.*.hook_resid_post", self.model.config)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of a prompt."""
        return self.model(ids)

    def record(self, ids: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits of a prompt, and its attention and routing, copied to the CPU."""
        return self._record(ids, self.hooks)

    def record_all(self, ids: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """As `record`, with the residual stream."""
        return self._record(ids, [*self.hooks, *self.stream])

    def _record(self, ids: Tensor, hooks: Iterable[str]) -> tuple[Tensor, dict[str, Tensor]]:
        recorder = Recorder(hooks)
        # Keep the logits until the end, as `forward` does: freeing them takes time.
        return self.model(ids, tap=recorder), recorder.cut([(0, ids.shape[1])])[0]

    def decode(self, ids: Tensor, n: int) -> list[int]:
        """The tokens that follow a prompt, greedily."""
        return self._decode(ids, n, NO_TAP)

    def decode_recording(self, ids: Tensor, n: int) -> list[int]:
        """As `decode`, with attention and routing of every token."""
        recorder = Recorder(self.hooks)
        tokens = self._decode(ids, n, recorder)
        recorder.cut([(0, recorder.n_complete)])
        return tokens

    def _decode(self, ids: Tensor, n: int, tap: Tap) -> list[int]:
        return list(greedy(self.decoder, ids, n, tap))


def greedy(model: Decoder, ids: Tensor, n: int, tap: Tap = NO_TAP) -> Iterator[int]:
    """Yields `n` greedily decoded tokens after a prompt, with no end token."""
    steps = decode(
        model,
        ids.tolist(),
        sampler=Sampler(Sampling.greedy(), seeds=[0]),
        guides=[_NoStop()],
        max_new_tokens=n,
        tap=tap,
    )
    return (int(step.token_ids[0]) for step in steps)


class _NoStop:
    """A guide that never stops the reply."""

    def next(self, drawn: int) -> int | None:
        return None

    def take(self, token_id: int) -> bool:
        return False


class Theirs:
    """`transformers`: SDPA attention, and eager attention for recording patterns."""

    name = "transformers"
    cases = ("forward", "record", "decode", "decode_recording")

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        # Any: the annotated return type of AutoModel lacks the attributes of the model.
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=DTYPES[dtype], local_files_only=True, trust_remote_code=False
        )
        self.model = model.to(device).eval()
        self.d_vocab = self.model.config.vocab_size
        self.moe_layers = Qwen3Config.from_file(folder).moe_layers

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of a prompt."""
        self.model.set_attn_implementation("sdpa")
        return self.model(ids, use_cache=False).logits

    def record(self, ids: Tensor) -> object:
        """The output for a prompt, with attention patterns and router logits."""
        self.model.set_attn_implementation("eager")
        routing = {"output_router_logits": True} if self.moe_layers else {}
        return self.model(ids, use_cache=False, output_attentions=True, **routing)

    def decode(self, ids: Tensor, n: int) -> list[int]:
        """The tokens that follow a prompt, greedily."""
        self.model.set_attn_implementation("sdpa")
        return self._generate(ids, n)

    def decode_recording(self, ids: Tensor, n: int) -> list[int]:
        """As `decode`, with the attention of every token; `generate` cannot return routing."""
        self.model.set_attn_implementation("eager")
        return self._generate(ids, n, output_attentions=True)

    def _generate(self, ids: Tensor, n: int, **options: bool) -> list[int]:
        out = self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=n,
            min_new_tokens=n,
            do_sample=False,
            pad_token_id=0,
            return_dict_in_generate=True,
            **options,
        )
        return out.sequences[0, ids.shape[1] :].tolist()


class Lens:
    """TransformerLens: its bridge around the model of `transformers`; optional."""

    name = "TransformerLens"
    cases = ("forward", "record")

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        # Any: an optional package, so its types are not available to the type checker.
        bridge: Any = import_module("transformer_lens.model_bridge").TransformerBridge
        self.model = bridge.boot_transformers(str(folder), device=device, dtype=DTYPES[dtype])
        self.d_vocab = self.model.cfg.d_vocab
        self.hooks = ("hook_pattern", "hook_expert_indices", "hook_expert_weights")

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of a prompt."""
        return self.model(ids, return_type="logits")

    def record(self, ids: Tensor) -> object:
        """Logits of a prompt, its attention patterns, and the experts with their weights."""
        return self.model.run_with_cache(ids, names_filter=lambda name: name.endswith(self.hooks))


class Sight:
    """nnsight: its envoys around the model of `transformers`; optional."""

    name = "nnsight"
    cases = ("forward", "record")

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        self.theirs = Theirs(folder, device, dtype)
        self.model, self.d_vocab = self.theirs.model, self.theirs.d_vocab
        # Any: an optional package, as above.
        envoy: Any = import_module("nnsight").NNsight
        self.envoy = envoy(self.model)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of a prompt."""
        self.model.set_attn_implementation("sdpa")
        envoy = self.envoy
        saved = []
        with envoy.trace(ids, use_cache=False):
            saved.append(envoy.lm_head.output.save())
        return saved[0]

    def record(self, ids: Tensor) -> object:
        """Attention patterns and router outputs of a prompt, and its logits last."""
        self.model.set_attn_implementation("eager")
        envoy, moe_layers, saved = self.envoy, self.theirs.moe_layers, []
        with envoy.trace(ids, use_cache=False):
            for number, layer in enumerate(envoy.model.layers):
                saved.append(layer.self_attn.output[1].save())
                if number in moe_layers:
                    saved.append(layer.mlp.gate.output.save())
            saved.append(envoy.lm_head.output.save())
        return saved


class Scratch:
    """llms-from-scratch: its Qwen3 with a KV cache; optional."""

    name = "llms-from-scratch"
    cases = ("forward", "decode")

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        # Any: optional packages, as above.
        package: Any = import_module("llms_from_scratch.kv_cache.qwen3")
        generating: Any = import_module("llms_from_scratch.kv_cache.generate")
        config, weights = Qwen3Config.from_file(folder), CheckpointReader(folder)
        fields = _scratch_config(config, DTYPES[dtype])
        self.model = package.Qwen3Model(fields)
        published = {name: weights.tensor(name).to(DTYPES[dtype]) for name in weights.names()}
        with redirect_stdout(StringIO()):  # The loader prints a line if weights are tied.
            package.load_weights_into_qwen(self.model, fields, published)
        self.model.to(device).eval()
        self.d_vocab, self.generate = config.d_vocab, generating.generate_text_simple

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of a prompt."""
        self.model.reset_kv_cache()
        return self.model(ids)

    def decode(self, ids: Tensor, n: int) -> list[int]:
        """The tokens that follow a prompt, greedily."""
        return self.generate(self.model, ids, n)[0, ids.shape[1] :].tolist()


def _scratch_config(config: Qwen3Config, dtype: torch.dtype) -> dict[str, Any]:
    """The config as llms-from-scratch expects it."""
    fields = {
        "vocab_size": config.d_vocab,
        "context_length": config.n_ctx,
        "emb_dim": config.d_model,
        "n_heads": config.n_heads,
        "n_layers": config.n_layers,
        "hidden_dim": config.d_mlp,
        "head_dim": config.d_head,
        "qk_norm": True,
        "n_kv_groups": config.n_kv_heads,
        "rope_base": config.rope.theta,
        "dtype": dtype,
    }
    if config.is_moe:
        fields |= {
            "num_experts": config.n_experts,
            "num_experts_per_tok": config.n_experts_per_token,
            "moe_intermediate_size": config.d_expert,
        }
    return fields


Contestant = Ours | Theirs | Lens | Sight | Scratch
CONTESTANTS: dict[str, type[Contestant]] = {
    side.name: side for side in (Ours, Theirs, Lens, Sight, Scratch)
}
PACKAGES = {
    Lens.name: "transformer_lens",
    Sight.name: "nnsight",
    Scratch.name: "llms_from_scratch",
}
"""Python packages of the optional libraries."""


def installed() -> list[str]:
    """Names of the libraries that are installed."""
    return [name for name in CONTESTANTS if find_spec(PACKAGES.get(name, "transformers"))]
