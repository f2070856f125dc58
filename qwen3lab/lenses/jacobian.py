"""The Jacobian lens: a layer's stream moved by its mean first-order effect on the final stream.

J_l is the mean over prompts, and over source positions t, of the sum over target positions t' of
d h_final(t') / d h_l(t). Both run over the valid positions of the prompt, which leave out the first
16 (attention sinks) and the last (it has no next token); by causality only t' >= t count. h_l is
the residual stream after block l, h_final that after the last block, before the final norm. The
lens reads unembed(norm(J_l h_l)); with J_l = I it is the logit lens.

Source: Gurnee et al., "Verbalizable representations form a global workspace in language models"
(Transformer Circuits Thread, 2026), with the estimator of `anthropics/jacobian-lens` as
TransformerLens 4.3 has it in `tools/analysis/jacobian_lens.py`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.arguments import checked
from qwen3lab.display import Summary
from qwen3lab.lab import Lab
from qwen3lab.lenses.lens import Lens
from qwen3lab.lenses.mapped import mapped_lens
from qwen3lab.lenses.stored_maps import StoredMaps
from qwen3lab.recording.recording import Recording
from qwen3lab.recording.weights_fingerprint import fingerprint
from qwen3lab.translation import tr, tr_count

KIND = "Jacobian lens"


@dataclass(frozen=True, repr=False, eq=False)
class JacobianLens(StoredMaps):
    """The matrices of a Jacobian lens, one for each layer but the last, whose lens is the output.

    Attributes:
        model_name: of the model that they were fitted to.
        fingerprint: of its weights; empty for a published file, which does not name them.
        layers: of the matrices.
        jacobians: J_l: final stream by stream after the layer.
        n_prompts: that they are the mean of.
        note: what is special about them, such as experts whose choice has no gradient; or empty.
    """

    kind: ClassVar[str] = KIND
    axes: ClassVar[dict[str, str]] = {"jacobians": "layer d_model d_model"}

    jacobians: Float[Tensor, "layer d_model d_model"]
    n_prompts: int
    note: str = ""

    @classmethod
    def identity(cls, lab: Lab) -> "JacobianLens":
        """J_l = I, which is the logit lens."""
        n, d_model = lab.config.n_layers - 1, lab.config.d_model
        eye = torch.eye(d_model).repeat(n, 1, 1)
        return cls(lab.name, fingerprint(lab.model), tuple(range(n)), eye, 0)

    def moved(
        self, layer: int, stream: Float[Tensor, "token d_model"]
    ) -> Float[Tensor, "token d_model"]:
        """J_l times the residual stream after a layer, float32."""
        if layer not in self.layers:
            return stream
        return stream.float() @ self.jacobians[self.layers.index(layer)].float().T

    @classmethod
    def _told(cls, about: dict[str, Any]) -> dict[str, Any]:
        return {"n_prompts": int(about.get("n_prompts", 0)), "note": str(about.get("note", ""))}

    def _summary(self) -> Summary:
        facts = {
            tr("of"): self.model_name,
            tr("layers"): tr("{first} to {last}", first=self.layers[0], last=self.layers[-1]),
            tr("mean over"): tr_count("{n:,} prompt", "{n:,} prompts", self.n_prompts),
        }
        note = tr("lenses.jacobian_lens reads a recording with it")
        return Summary(KIND, facts, note=f"{self.note}; {note}" if self.note else note)


@checked
def jacobian_lens(
    lab: Lab,
    recording: Recording,
    maps: JacobianLens | None = None,
    *,
    positions: slice = slice(None),
) -> Lens:
    """What each layer predicts, read through the matrices of a Jacobian lens.

    Args:
        lab: that made the recording.
        recording: with `capture=lenses.NEEDED`.
        maps: from `lenses.fit_jacobian`, `JacobianLens.load` or `lenses.open_published`; None for
            those that ship with the model.
        positions: of the recording.

    Raises:
        ValueError: a recording or matrices of another model, or positions that select none.
        RecordingError: the residual stream was not recorded.
        CheckpointError: no matrices were given, and none ship with the model.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab import lenses
        >>> lab = qwen3lab.load("tiny-moe")
        >>> rec = lab.record("3+4=?", capture=lenses.NEEDED)
        >>> lenses.jacobian_lens(lab, rec).logits(2).shape  # token, vocab
        torch.Size([4, 1536])
        >>> maps = lenses.fit_jacobian(lab, ["3+2*7-1=?"], skip_first=1, progress=False)
        >>> maps.jacobians.shape  # layer, d_model, d_model; the last layer needs none
        torch.Size([5, 128, 128])
    """
    maps = JacobianLens.shipped(lab) if maps is None else maps
    return mapped_lens(KIND, lab, recording, maps, positions)
