"""The logit lens: each layer's residual stream through the final norm and the unembedding.

Source: nostalgebraist, "interpreting GPT: the logit lens" (2020).
"""

from collections.abc import Sequence

from qwen3lab.analysis.one_model import check_recorded_by
from qwen3lab.arguments import checked
from qwen3lab.lab import Lab
from qwen3lab.lenses.lens import Lens
from qwen3lab.lenses.places import readable_hooks, recorded_places
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import later, tr


@checked
def logit_lens(
    lab: Lab,
    recording: Recording,
    *,
    hooks: str | Sequence[str] = "resid_post",
    positions: slice = slice(None),
) -> Lens:
    """What the final norm and the unembedding read from the residual stream at each layer.

    At the last layer these are the model's own logits. What a head, an MLP or an expert writes is
    read alone, with its own norm: `attribution.direct` has its share of a logit instead.

    Args:
        lab: that made the recording.
        recording: with `capture=lenses.needed(hooks)`.
        hooks: "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "result" (each head)
            or "expert_out" (each chosen expert), or several; full names and globs, too.
        positions: of the recording.

    Raises:
        ValueError: a recording of another model, or positions that select none.
        HookError: a hook that the model does not have, or that is not in the residual stream.
        RecordingError: a hook was not recorded.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab import lenses
        >>> lab = qwen3lab.load("tiny-moe")
        >>> rec = lab.record("3+4=?", capture=lenses.NEEDED)
        >>> lens = lenses.logit_lens(lab, rec)
        >>> lens.rank("7").shape  # layer, token
        torch.Size([6, 4])
    """
    check_recorded_by(lab, recording)
    places = recorded_places(recording, readable_hooks(hooks, lab.config))
    return Lens(later("logit lens"), lab, recording, places, chosen_positions(recording, positions))


def chosen_positions(recording: Recording, positions: slice) -> tuple[int, ...]:
    """The positions that a slice selects; raises `ValueError` if these are none."""
    chosen = tuple(range(len(recording))[positions])
    if not chosen:
        raise ValueError(
            tr(
                "positions {start} to {stop} select none of the recording's "
                "{n_recording} tokens: choose some of 0 to {last}",
                start=positions.start,
                stop=positions.stop,
                n_recording=len(recording),
                last=len(recording) - 1,
            )
        )
    return chosen
