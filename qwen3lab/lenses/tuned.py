"""The tuned lens: an affine map for each layer, before the final norm and the unembedding.

Early layers write in another basis than the last one, which the logit lens reads as if it were the
same. The maps are trained so that each layer's lens predicts what the model's output predicts.

Source: Belrose et al., "Eliciting latent predictions from transformers with the tuned lens"
(arXiv 2303.08112), section 3: TunedLens_l(h) = LogitLens(A_l h + b_l).
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

KIND = "tuned lens"


@dataclass(frozen=True, repr=False, eq=False)
class TunedLens(StoredMaps):
    """Affine maps of a tuned lens, one for each layer but the last, whose lens is the output.

    Attributes:
        model_name: of the model that they were trained for.
        fingerprint: of its weights.
        layers: of the maps; each maps the residual stream after its layer.
        matrices: A_l.
        biases: b_l.
        kl: KL(output || lens) of each training step's texts, nats per token; empty after loading.
        n_tokens: that the maps were trained on.
    """

    kind: ClassVar[str] = KIND
    axes: ClassVar[dict[str, str]] = {
        "matrices": "layer d_model d_model",
        "biases": "layer d_model",
    }

    matrices: Float[Tensor, "layer d_model d_model"]
    biases: Float[Tensor, "layer d_model"]
    kl: Float[Tensor, "step layer"]
    n_tokens: int

    @classmethod
    def identity(cls, lab: Lab) -> "TunedLens":
        """Maps that change nothing, with which training begins: those of the logit lens."""
        n, d_model = lab.config.n_layers - 1, lab.config.d_model
        return cls(
            model_name=lab.name,
            fingerprint=fingerprint(lab.model),
            layers=tuple(range(n)),
            matrices=torch.eye(d_model).repeat(n, 1, 1),
            biases=torch.zeros(n, d_model),
            kl=torch.zeros(0, n),
            n_tokens=0,
        )

    def moved(
        self, layer: int, stream: Float[Tensor, "token d_model"]
    ) -> Float[Tensor, "token d_model"]:
        """The residual stream after a layer in the basis of the last one, float32."""
        if layer not in self.layers:
            return stream
        row = self.layers.index(layer)
        return stream.float() @ self.matrices[row].float().T + self.biases[row].float()

    @classmethod
    def _told(cls, about: dict[str, Any]) -> dict[str, Any]:
        kl = torch.zeros(0, len(about["layers"]))
        return {"kl": kl, "n_tokens": int(about.get("n_tokens", 0))}

    def _summary(self) -> Summary:
        facts = {
            tr("of"): self.model_name,
            tr("layers"): tr("{first} to {last}", first=self.layers[0], last=self.layers[-1]),
            tr("trained on"): tr_count("{n:,} token", "{n:,} tokens", self.n_tokens),
        }
        if len(self.kl):
            first, last = float(self.kl[0].mean()), float(self.kl[-1].mean())
            facts[tr("mean KL")] = tr(
                "{first:.3f} nats at the first step, {last:.3f} at the last", first=first, last=last
            )
        return Summary(
            tr("Tuned lens"), facts, note=tr("lenses.tuned_lens reads a recording with it")
        )


@checked
def tuned_lens(
    lab: Lab,
    recording: Recording,
    maps: TunedLens | None = None,
    *,
    positions: slice = slice(None),
) -> Lens:
    """What each layer predicts, read through the maps of a tuned lens.

    Args:
        lab: that made the recording.
        recording: with `capture=lenses.NEEDED`.
        maps: from `lenses.train` or `TunedLens.load`; None for those that ship with the model.
        positions: of the recording.

    Raises:
        ValueError: a recording or maps of another model, or positions that select none.
        RecordingError: the residual stream was not recorded.
        CheckpointError: no maps were given, and none ship with the model.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab import lenses
        >>> lab = qwen3lab.load("tiny-moe")
        >>> rec = lab.record("3+4=?", capture=lenses.NEEDED)
        >>> lenses.tuned_lens(lab, rec).kl().shape  # layer, token
        torch.Size([6, 4])
        >>> maps = lenses.train(lab, ["3+4=?", "5*2=?"], steps=2, progress=False)
        >>> lenses.tuned_lens(lab, rec, maps).logits(2).shape  # token, vocab
        torch.Size([4, 1536])
    """
    maps = TunedLens.shipped(lab) if maps is None else maps
    return mapped_lens(KIND, lab, recording, maps, positions)
