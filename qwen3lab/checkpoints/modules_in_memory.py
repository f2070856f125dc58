"""Refuses a model in memory that computes something else than its config and tensors say.

The copy of such a model takes only its tensors and its config. So its modules are compared with
those that `transformers` builds from the same config: a changed setting (`gate.top_k`), a config
changed after the modules were built, and a replaced `forward` are refused. Hooks, which may only
observe, are named in a warning.
"""

import copy
import warnings
from typing import Any

import torch
from torch import nn

from qwen3lab.display.plain import one_line
from qwen3lab.errors import CheckpointError, ConfigError

WITHOUT_EFFECT = frozenset(
    [
        "attention_dropout",
        "gradient_checkpointing",
        "layer_idx",
        "max_seq_len_cached",
        "num_experts_per_tok",
        "original_max_seq_len",
        "padding_idx",
        "router_aux_loss_coef",
        "training",
        "vocab_size",
    ]
)
"""Settings of modules that only training or a cache reads, or that tell what was built."""
PACKAGES = ("transformers.", "accelerate.")
"""Their own hooks return outputs and move tensors, and change no value."""
WAY_OUT = "save_pretrained writes what can be copied, so save the model and load its folder"


def require_model(hf_model: Any) -> nn.Module:
    """Check that something is a model with a config.

    Raises:
        CheckpointError: it is not.
    """
    if not isinstance(hf_model, nn.Module) or not hasattr(
        getattr(hf_model, "config", None), "to_dict"
    ):
        inner = getattr(hf_model, "module", getattr(hf_model, "model", None))
        hint = "; give the model inside of it" if isinstance(inner, nn.Module) else ""
        raise CheckpointError(
            f"a {type(hf_model).__name__} is not a Qwen3 of transformers: expected a model such as "
            f"AutoModelForCausalLM.from_pretrained gives{hint}"
        )
    return hf_model


def check_modules(hf_model: Any) -> None:
    """Check that a model computes what its config says.

    Args:
        hf_model: its tensors have been copied, so they have the right names.

    Raises:
        CheckpointError: a module has another setting, another `forward` or other rotary frequencies
            than its config gives it.
        ConfigError: the config in memory asks for sliding windows.

    Warns:
        UserWarning: hooks, dropout in training mode, or rounded rotary frequencies.
    """
    if getattr(hf_model.config, "sliding_window", None) is not None:
        raise ConfigError(
            f"the config in memory has sliding_window {hf_model.config.sliding_window}: only full "
            "attention is supported, so expected None"
        )
    found = dict(hf_model.named_modules())
    for path, built in _as_built(hf_model).named_modules():
        if path in found:
            _check_forward(path, found[path], built)
            _check_settings(path, found[path], built)
            if hasattr(built, "inv_freq"):
                _check_frequencies(path, found[path], type(built)(hf_model.config))
    _warn_of_hooks(found)
    _warn_of_dropout(hf_model)


def _as_built(hf_model: Any) -> nn.Module:
    """The model that `transformers` builds from the config, without memory for its tensors."""
    kinds = [kind for kind in type(hf_model).__mro__ if kind.__module__.startswith(PACKAGES)]
    if not kinds:
        raise CheckpointError(
            f"a {type(hf_model).__name__} is not a Qwen3 of transformers: its forward pass is not "
            f"known; {WAY_OUT}"
        )
    config = copy.deepcopy(hf_model.config)  # To build a model writes into its config.
    with torch.device("meta"):
        return kinds[0]._from_config(config, attn_implementation="eager")


def _check_forward(path: str, module: nn.Module, built: nn.Module) -> None:
    forward = vars(module).get("forward", type(module).forward)
    if type(vars(module).get("_hf_hook")).__module__.startswith(PACKAGES):
        forward = vars(module).get("_old_forward", forward)  # It moves tensors between devices.
    if getattr(forward, "__func__", forward) is not type(built).forward:
        raise CheckpointError(
            f"{_shown(path)} of the model in memory has a forward of its own, not that of "
            f"{type(built).__name__} in transformers, and a copy would not have it: {WAY_OUT}"
        )


def _check_settings(path: str, module: nn.Module, built: nn.Module) -> None:
    for name, value in vars(built).items():
        if name.startswith("_") or name in WITHOUT_EFFECT:
            continue
        is_plain = value is None or isinstance(value, bool | int | float | str)
        if is_plain and getattr(module, name, None) != value:
            raise CheckpointError(
                f"{_shown(path)}.{name} of the model in memory is {getattr(module, name, None)!r}, "
                f"and its config gives {value!r}: one of them was changed after the model was "
                "built; change config and module alike, or load the model again"
            )


def _check_frequencies(path: str, module: Any, fresh: Any) -> None:
    found, expected = module.inv_freq, fresh.inv_freq
    if found.is_meta:
        return
    if torch.finfo(found.dtype).bits < 32:
        warnings.warn(
            f"{_shown(path)}.inv_freq of the model in memory is {found.dtype}, rounded by a call "
            "such as model.bfloat16(): the copy has it in float32, as from_pretrained(dtype=) does",
            stacklevel=2,
        )
    rounded = expected.to(found.dtype).float()
    same = found.shape == expected.shape and torch.allclose(found.float().cpu(), rounded, rtol=1e-5)
    if not same:
        raise CheckpointError(
            f"{_shown(path)}.inv_freq of the model in memory has other values than its config "
            "gives: the rope settings were changed after the model was built; save the model and "
            "load its folder, or load the model again"
        )


def _warn_of_hooks(found: dict[str, nn.Module]) -> None:
    hooked = [path for path, module in found.items() if _has_hooks(module)]
    if hooked:
        warnings.warn(
            f"{_shown(hooked[0])} of the model in memory has forward hooks ({len(hooked)} modules "
            "in all): the copy does not have them, nor what they change",
            stacklevel=2,
        )


def _has_hooks(module: nn.Module) -> bool:
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    return any(not str(getattr(hook, "__module__", "")).startswith(PACKAGES) for hook in hooks)


def _warn_of_dropout(hf_model: Any) -> None:
    if hf_model.training and getattr(hf_model.config, "attention_dropout", 0):
        warnings.warn(
            f"the model in memory is in training mode with attention_dropout "
            f"{hf_model.config.attention_dropout}: the copy has no dropout, as after model.eval()",
            stacklevel=2,
        )


def _shown(path: str) -> str:
    return one_line(path, width=120) or "the root"
