"""Files of hidden states that vLLM writes (`extract_hidden_states`), as recordings."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from qwen3lab.arguments import checked
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.display.plain import one_line
from qwen3lab.errors import CorpusError
from qwen3lab.lab import Lab
from qwen3lab.recording.recording import Recording
from qwen3lab.recording.rendered_logits import OutputHead
from qwen3lab.storage.checked_tensors import open_tensors
from qwen3lab.text.tokenizer import token_texts

STATES, TOKENS = "hidden_states", "token_ids"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MAX_REASON = 200


@checked
def from_hidden_states(path: str | Path, *, lab: Lab, layers: Sequence[int]) -> Recording:
    """Read a file of vLLM's `extract_hidden_states` into a recording.

    The file has `hidden_states`, of the shape token, layer, d_model, and `token_ids`. It does not
    name the layers: give those of the engine's `eagle_aux_hidden_state_layer_ids`. Number n is the
    residual stream that block n reads, so 0 is the embedding, and the number of layers is the last
    stream, before the final norm. The recording names them as ours does: `blocks.0.hook_resid_pre`,
    then `blocks.<n - 1>.hook_resid_post`, which lenses and probes read.

    Args:
        path: of the file, once the engine has released its lock.
        lab: of the model that the engine ran; it is not run.
        layers: the numbers that the engine was given, in any order; it writes them in ascending
            order.

    Raises:
        CorpusError: no such file, another layout, or values that do not fit the model.

    Source: docs/features/speculative_decoding/extract_hidden_states.md and
    example_hidden_states_connector.py of vLLM.
    """
    try:
        with open_tensors(Path(path)) as file:
            missing = [name for name in (STATES, TOKENS) if name not in file.stored]
            if missing:
                raise ValueError(f"it has no {missing[0]}")
            states, token_ids = file.read(STATES), file.read(TOKENS)
        hooks = _hooks(layers, lab.config)
        _check(states, token_ids, hooks, lab.config)
    except (OSError, ValueError) as error:
        reason = one_line(str(error), width=MAX_REASON)
        raise CorpusError(
            f"{path} holds no hidden states of {lab.name} ({reason}): expected a file that "
            "vLLM's extract_hidden_states wrote, and the layers that it was given"
        ) from error
    activations = {
        hook: states[:, place].clone(memory_format=torch.contiguous_format)
        for place, hook in enumerate(hooks)
    }
    texts = token_texts(lab.tokenizer, token_ids.tolist())
    head = OutputHead.of(lab.model) if lab.config.has_unembedding else None
    return Recording(token_ids.long(), texts, lab.config, lab.name, activations, head=head)


def _hooks(layers: Sequence[int], config: Qwen3Config) -> list[str]:
    """The hook of each of the engine's layers, in ascending order."""
    numbers = sorted(layers)
    outside = [n for n in numbers if not 0 <= n <= config.n_layers]
    if outside or not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(
            f"layers is {list(layers)}: expected each once, from 0 to {config.n_layers}"
        )
    return [f"blocks.{n - 1}.hook_resid_post" if n else "blocks.0.hook_resid_pre" for n in numbers]


def _check(
    states: Shaped[Tensor, "..."],
    token_ids: Shaped[Tensor, "..."],
    hooks: Sequence[str],
    config: Qwen3Config,
) -> None:
    if token_ids.ndim != 1 or not len(token_ids) or token_ids.dtype.is_floating_point:
        raise ValueError(f"its token_ids have the shape {tuple(token_ids.shape)}")
    expected = (len(token_ids), len(hooks), config.d_model)
    if tuple(states.shape) != expected or states.dtype not in DTYPES:
        raise ValueError(
            f"its hidden_states have the shape {tuple(states.shape)} and dtype {states.dtype}: "
            f"the tokens, layers and model make it {expected}"
        )
    _check_ids(token_ids, config)
    if not bool(states.isfinite().all()):
        raise ValueError("its hidden_states are not finite")


def _check_ids(token_ids: Int[Tensor, " token"], config: Qwen3Config) -> None:
    outside = token_ids[(token_ids < 0) | (token_ids >= config.d_vocab)]
    if len(outside):
        raise ValueError(
            f"token {int(outside[0])} does not exist in a vocabulary of {config.d_vocab}"
        )
