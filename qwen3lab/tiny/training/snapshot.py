"""The state before a training step, so that an interrupted step can be undone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import Module, Parameter
from torch.optim import Optimizer

from qwen3lab.device.grad_mode import without_grad


@dataclass(frozen=True)
class Snapshot:
    """Copies of the weights and of the optimiser state.

    Attributes:
        step: number of finished steps.
        tokens: number of tokens of these steps.
        weights: of each parameter of the model, in its order.
        states: of each parameter of the optimisers, in their order.
    """

    step: int
    tokens: int
    weights: list[Tensor]
    states: list[dict[str, Any]]

    @classmethod
    @without_grad
    def of(
        cls, model: Module, optimizers: Sequence[Optimizer], *, step: int, tokens: int
    ) -> "Snapshot":
        """Copy the current state."""
        states = [_copies(buffers) for _, buffers in optimiser_states(optimizers)]
        return cls(step, tokens, [weights.clone() for weights in model.parameters()], states)

    @without_grad
    def restore(self, model: Module, optimizers: Sequence[Optimizer]) -> None:
        """Put the copies back and clear the gradients; after an interrupt it can be repeated."""
        for parameter, weights in zip(model.parameters(), self.weights, strict=True):
            parameter.copy_(weights)
            parameter.grad = None
        for (_, buffers), old in zip(optimiser_states(optimizers), self.states, strict=True):
            buffers.clear()
            buffers |= _copies(old)


def optimiser_states(optimizers: Sequence[Optimizer]) -> Iterator[tuple[Parameter, dict[str, Any]]]:
    """Each parameter, with the state that its optimiser keeps for it."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                yield parameter, optimizer.state[parameter]


def _copies(buffers: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value.clone() if isinstance(value, Tensor) else value for key, value in buffers.items()
    }
