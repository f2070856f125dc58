"""How far one form of a model is from another: streamed, quantised, or in another dtype."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.specialisation import choice_overlap
from qwen3lab.display import Displayed, Summary
from qwen3lab.lab import Lab
from qwen3lab.text.prompt import Prompt


@dataclass(frozen=True, repr=False)
class Fidelity(Displayed):
    """What changed in what a model says, and in how it is served.

    Attributes:
        n_tokens: that were compared.
        kl: mean over tokens of the divergence of the next token's distribution from that of
            the reference, KL(reference || other), in nats.
        worst_kl: the same, of the token where it is greatest.
        same_top: share of tokens after which both think the same token most likely.
        logits: root mean square of the change of the logits, each token's mean taken off both,
            which softmax does not see; over the standard deviation of the reference's.
        experts: by layer with experts, the share of the reference's chosen experts that the
            other chose, too; None for a dense model.
    """

    n_tokens: int
    kl: float
    worst_kl: float
    same_top: float
    logits: float
    experts: Float[Tensor, " layer"] | None

    def _summary(self) -> Summary:
        facts = {
            "tokens": f"{self.n_tokens:,}",
            "KL": f"{self.kl:.2g} nats, at worst {self.worst_kl:.2g}",
            "same top token": f"{self.same_top:.1%}",
            "logits off": f"{self.logits:.2%} of their spread",
        }
        if self.experts is not None:
            facts["same experts"] = f"{float(self.experts.mean()):.1%}"
        return Summary("Fidelity to the reference", facts)

    def __str__(self) -> str:
        said = (
            f"Over {self.n_tokens:,} tokens: KL {self.kl:.2g} nats on average, {self.worst_kl:.2g} "
            f"at worst; the same most likely token {self.same_top:.1%}; logits off by "
            f"{self.logits:.2%} of their spread"
        )
        if self.experts is None:
            return f"{said}."
        least, mean = float(self.experts.min()), float(self.experts.mean())
        return f"{said}; the same experts {mean:.1%} ({least:.1%} in the layer where it is least)."


def fidelity(reference: Lab, other: Lab, prompts: Sequence[Prompt]) -> Fidelity:
    """Compare two forms of one model on prompts.

    Args:
        reference: the model as it should be, such as one that is streamed.
        other: a form of it, such as a quantised one.
        prompts: to read, one after another.

    Raises:
        ValueError: there is no prompt, or the models are not of one shape.
    """
    if not prompts:
        raise ValueError("there is nothing to compare the models on: expected at least one prompt")
    if reference.config != other.config:
        raise ValueError(
            f"{reference.name} and {other.name} have different sizes: expected two forms of one "
            "model"
        )
    kls, tops, spread, changed, overlaps = [], [], [], [], []
    for prompt in prompts:
        whole, form = reference.record(prompt), other.record(prompt)
        ours, theirs = whole.logits.float(), form.logits.float()
        log_p, log_q = ours.log_softmax(dim=-1), theirs.log_softmax(dim=-1)
        kls.append((log_p.exp() * (log_p - log_q)).sum(dim=-1).clamp_min(0.0))
        tops.append(ours.argmax(dim=-1) == theirs.argmax(dim=-1))
        centred = ours - ours.mean(dim=-1, keepdim=True)
        spread.append(centred.square().mean(dim=-1))
        changed.append((theirs - theirs.mean(dim=-1, keepdim=True) - centred).square().mean(dim=-1))
        if reference.config.is_moe:
            same = choice_overlap(whole.routing.experts, form.routing.experts)
            overlaps.append(same * len(ours))
    kl, n_tokens = torch.cat(kls), sum(map(len, kls))
    return Fidelity(
        n_tokens,
        kl=float(kl.mean()),
        worst_kl=float(kl.max()),
        same_top=float(torch.cat(tops).float().mean()),
        logits=float((torch.cat(changed).mean() / torch.cat(spread).mean()).sqrt()),
        experts=torch.stack(overlaps).sum(dim=0) / n_tokens if overlaps else None,
    )
