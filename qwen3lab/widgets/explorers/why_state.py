"""State of the why explorer."""

import traitlets

from qwen3lab.translation import later
from qwen3lab.widgets.explorers.state import ExplorerState, Result

HEADS = later("without each head")
EXPERTS = later("without each expert")
MLPS = later("without each MLP, token by token")
OTHER_QUESTION = later("with the stream of another question")
EFFECTS = (HEADS, EXPERTS, MLPS, OTHER_QUESTION)
"""What a map of effects changes in the run."""

LOGIT_LENS = later("logit lens")
TUNED_LENS = later("tuned lens")
JACOBIAN_LENS = later("Jacobian lens")
LENSES = (LOGIT_LENS, TUNED_LENS, JACOBIAN_LENS)


class WhyState(ExplorerState):
    """State of an explorer that asks why a token was written.

    Attributes:
        other_token: text of the token that the written one is compared with; empty for the most
            probable other one.
        lens: what reads the layers, one of `LENSES`.
        explained: the explanation of the picked token, as an `Explanation`, or None.
        effect: what the map of effects changes, one of `EFFECTS`.
        effects: the map of effects, as `Effects`, or None.
        measuring_effects: True while the map is computed.
        part: the picked part of the model: kind ("head", "expert", "mlp" or "layer"), layer, and
            number of the head or expert. Of an MLP and of a layer, the number is the position of a
            token, -1 for all. Empty for none.
        strength: of steering, in multiples of the mean norm of the stream at the layer.
        edited: the reply to the same question with the picked part changed, or None.
        edited_name: what was changed in it.
        edited_change: the change of the model in it, as a `Change`, or None.
        problem: error message about an explanation, a map or a changed reply, or empty; `error` is
            about the run.
    """

    other_token = traitlets.Unicode()
    lens = traitlets.Enum(LENSES, LOGIT_LENS)
    explained = Result(None)
    effect = traitlets.Enum(EFFECTS, HEADS)
    effects = Result(None)
    measuring_effects = traitlets.Bool(False)
    part = traitlets.Tuple()
    strength = traitlets.Float(0.5)
    edited = Result(None)
    edited_name = traitlets.Unicode()
    edited_change = traitlets.Any(None)
    problem = traitlets.Unicode()

    @property
    def can_stop(self) -> bool:
        """True if Stop has an effect: a run or the map of effects is being computed."""
        return super().can_stop or self.measuring_effects
