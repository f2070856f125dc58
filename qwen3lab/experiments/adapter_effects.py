"""How much of an adapter's effect each layer has: the adapter is switched on layer by layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.arguments import checked
from qwen3lab.display import Displayed, Summary
from qwen3lab.experiments.fidelity import Fidelity, fidelity
from qwen3lab.lab import Lab
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.text.prompt import Prompt, as_prompts
from qwen3lab.translation import tr


@dataclass(frozen=True, repr=False, eq=False)
class AdapterEffects(EqualByValue, Displayed):
    """Differences between a model and the same with an adapter, in one layer at a time.

    Attributes:
        adapter: its name.
        layers: that the adapter changes.
        by_layer: the model against the same with the adapter in that layer only.
        whole: the model against the same with the whole adapter.
    """

    adapter: str
    layers: tuple[int, ...]
    by_layer: tuple[Fidelity, ...]
    whole: Fidelity

    @property
    def kl(self) -> Float[Tensor, " layer"]:
        """KL(base || adapter in that layer only), mean over tokens, in nats."""
        return torch.tensor([each.kl for each in self.by_layer])

    def _summary(self) -> Summary:
        facts = {tr("whole adapter"): tr("KL {kl:.2g} nats", kl=self.whole.kl)}
        if self.layers:
            most = int(self.kl.argmax())
            facts[tr("largest alone")] = tr(
                "layer {layer}, KL {kl:.2g} nats",
                layer=self.layers[most],
                kl=float(self.kl[most]),
            )
        return Summary(tr("Effects of the adapter {adapter} by layer", adapter=self.adapter), facts)


@checked
def adapter_effects(lab: Lab, adapter: str, prompts: Sequence[Prompt]) -> AdapterEffects:
    """Compare a model with itself under an adapter that is on in one layer at a time.

    Effects of single layers need not add up to that of the whole adapter. What an adapter changes
    outside of the layers, such as the final norm, counts in the whole only.

    Args:
        lab: with the adapter in `lab.adapters`.
        adapter: its name there.
        prompts: to run, once for each layer and once for the whole.

    Raises:
        CheckpointError: there is no such adapter.
        ValueError: no prompts.
    """
    prompts, layers = as_prompts(prompts), lab.adapters[adapter].layers
    return AdapterEffects(
        adapter,
        layers,
        tuple(fidelity(lab, lab.adapters.on(adapter, layers=[n]), prompts) for n in layers),
        fidelity(lab, lab.adapters.on(adapter), prompts),
    )
