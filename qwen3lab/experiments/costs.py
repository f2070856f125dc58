"""The cost of experiments, computed before they run."""

from collections.abc import Sequence

from qwen3lab.arguments import Count, checked
from qwen3lab.experiments.effects import Text
from qwen3lab.interventions.rerouting import moe_layers_of
from qwen3lab.lab import Lab
from qwen3lab.thinking.cost import Cost, estimate


@checked
def knock_out_cost(
    lab: Lab,
    texts: Sequence[Text],
    *,
    layers: Sequence[int] | None = None,
    busiest: Count | None = None,
) -> Cost:
    """The cost of `knock_out` with the same arguments; the model runs for a few steps only.

    Raises:
        HookError: the model is dense, or a layer has no experts.
    """
    every = moe_layers_of(None if layers is None else tuple(layers), lab.config)
    n_experts = len(every) * min(busiest or lab.config.n_experts, lab.config.n_experts)
    # Once for each expert, once with all of them, and once for their load.
    read = (n_experts + 2) * sum(len(text.token_ids) for text in texts)
    seconds = estimate(lab, read_tokens=read, steps=0, rows=1)
    return Cost(n_experts, 0, 0, read, "expert", seconds)
