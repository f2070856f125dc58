"""A mixture of experts in place of a dense model, for texts about experts."""

from qwen3lab.lab import Lab, load
from qwen3lab.translation import tr

STAND_IN = "tiny-moe"


def with_experts(lab: Lab) -> Lab:
    """The lab if its model has experts, else the embedded mixture of experts.

    A dense model has no experts; a sentence on the standard output says so.
    """
    if lab.config.is_moe:
        return lab
    print(
        tr(
            "{name} is a dense model and has no experts: from here on, this is {stand_in}.",
            name=lab.name,
            stand_in=STAND_IN,
        )
    )
    return load(STAND_IN, device=lab.model.device)
