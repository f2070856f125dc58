"""The result of a verification: what was compared, and the first thing that differs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from qwen3lab.display import Displayed, Summary, one_line

FORMAT = 1
"""Of the JSON file."""

HINTS = {
    "hook_embed": "the embedding, or the order of the vocabulary",
    "attn.hook_q": "the weights of ln1 or of the query projection",
    "attn.hook_k": "the weights of ln1 or of the key projection",
    "attn.hook_v": "the weights of ln1 or of the value projection",
    "attn.hook_rot_q": "q_norm, rope_theta or the rope scaling",
    "attn.hook_rot_k": "k_norm, rope_theta or the rope scaling",
    "attn.hook_pattern": "the scale or the mask of the attention",
    "attn.hook_z": "the order of heads and key/value heads",
    "hook_attn_out": "the output projection of the attention",
    "mlp.hook_pre": "the weights of ln2 or of the gate projection",
    "mlp.hook_pre_linear": "the up projection",
    "mlp.hook_router_logits": "the weights of ln2 or of the router",
    "mlp.hook_expert_indices": "the router, or the number of experts per token",
    "mlp.hook_expert_weights": "norm_topk_prob",
    "hook_mlp_out": "the down projection, or the order of the experts",
    "hook_unembed": "the final norm or the unembedding",
    "greedy tokens": "the key/value cache",
}
"""Where to look first, by the end of the hook's name."""


@dataclass(frozen=True)
class Difference:
    """A hook that is further from `transformers` than rounding explains.

    Attributes:
        hook: its name, or "greedy tokens".
        prompt: "English", "Chinese", "code" or "chat".
        ours: relative error against the computation in the wider dtype.
        theirs: that of `transformers`.
        allowed: at most, for ours.
        note: more about it.
    """

    hook: str
    prompt: str
    ours: float
    theirs: float
    allowed: float
    note: str = ""

    @property
    def sentence(self) -> str:
        """What differs, by how much, and where to look."""
        parts = [part for part in self.hook.split(".") if part != "blocks" and not part.isdigit()]
        hint = HINTS.get(".".join(parts))
        if self.hook == "greedy tokens" or (self.note and not self.allowed):
            said = self.note
        else:
            said = (
                f"{self.ours:.1e} from the wider computation, where transformers is "
                f"{self.theirs:.1e} and {self.allowed:.1e} is allowed"
            )
            said += f" ({self.note})" if self.note else ""
        return f"{self.hook} differs on the prompt {self.prompt}: {said}" + (
            f"; look at {hint}" if hint else ""
        )


@dataclass(frozen=True)
class HookWorst:
    """The worst of all layers and prompts, of one kind of hook.

    Attributes:
        kind: the hook without its layer.
        hook: the hook with its layer.
        prompt: the prompt.
        ours: relative error of ours.
        theirs: that of `transformers`.
        share: ours, as a share of what is allowed.
    """

    kind: str
    hook: str
    prompt: str
    ours: float
    theirs: float
    share: float


@dataclass
class Experts:
    """Choices of experts: tokens times layers, ties, and others."""

    compared: int = 0
    tied: int = 0
    wrong: int = 0

    def count(self, compared: int, tied: int, wrong: int) -> None:
        """Add the tokens of one layer."""
        self.compared += compared
        self.tied += tied
        self.wrong += wrong


@dataclass
class Greedy:
    """Greedy tokens: compared, equal, and tied within rounding."""

    compared: int = 0
    equal: int = 0
    tied: int = 0

    def count(self, *, equal: bool, tied: bool) -> None:
        """Add a token."""
        self.compared += 1
        self.equal += equal
        self.tied += tied


@dataclass(frozen=True)
class ControlCheck:
    """One check of the thinking controls.

    Attributes:
        name: what was checked.
        holds: None if the model has no such control.
        said: what was found.
    """

    name: str
    holds: bool | None
    said: str


@dataclass(frozen=True, repr=False)
class Verification(Displayed):
    """The result of comparing a model with `transformers` on the same weights.

    Attributes:
        name: of the model.
        about: versions, device, dtype, sizes, and how both models were opened.
        prompts: number of tokens of each prompt, with our continuation.
        differences: all that differ, in the order of the forward pass.
        hooks: the worst of each kind of hook.
        experts: choices of experts.
        greedy: greedy tokens.
        controls: checks of the thinking controls.
        seconds: by step.
        peak_bytes: of the process, or of the GPU; None if the system does not say.
    """

    name: str
    about: Mapping[str, str]
    prompts: Mapping[str, int]
    differences: tuple[Difference, ...]
    hooks: tuple[HookWorst, ...]
    experts: Experts
    greedy: Greedy
    controls: tuple[ControlCheck, ...]
    seconds: Mapping[str, float]
    peak_bytes: int | None

    @property
    def ok(self) -> bool:
        """True if nothing differs and every control does what it must."""
        return not self.differences and all(check.holds is not False for check in self.controls)

    @property
    def first(self) -> str:
        """The first difference as a sentence; empty if there is none."""
        if self.differences:
            return self.differences[0].sentence
        return next((f"{c.name}: {c.said}" for c in self.controls if c.holds is False), "")

    @property
    def line(self) -> str:
        """The result as one line, to be pasted into an issue."""
        about = self.about
        versions = [f"{n} {about[n]}" for n in ("qwen3lab", "torch", "transformers", "python")]
        counts = [f"{len(self.prompts)} prompts of {sum(self.prompts.values())} tokens"]
        counts.append(f"{about['layers']} layers")
        greedy = f"greedy {self.greedy.equal}/{self.greedy.compared}"
        counts.append(greedy + (f" ({self.greedy.tied} ties)" if self.greedy.tied else ""))
        if self.experts.compared:
            share = 1 - (self.experts.tied + self.experts.wrong) / self.experts.compared
            counts.append(f"experts {share:.2%} equal")
        if self.hooks:
            counts.append(f"largest error {max(h.share for h in self.hooks):.2f} of the allowed")
        asked = [check for check in self.controls if check.holds is not None]
        counts.append(f"thinking {sum(bool(c.holds) for c in asked)}/{len(asked)}")
        peak = "" if self.peak_bytes is None else f", {self.peak_bytes / 1e9:.1f} GB"
        counts.append(f"{sum(self.seconds.values()):.0f} s{peak}")
        verdict = "agrees with transformers" if self.ok else f"DIFFERS: {self.first}"
        where = f"{about['device']}, {about['dtype']}, {about['reference']}"
        text = f"{self.name} {verdict} | {', '.join(versions)} | {where} | {', '.join(counts)}"
        return one_line(text, width=2000)

    def text(self) -> str:
        """Several lines: the table of hooks, the controls, and the line for an issue."""
        lines = [f"{n}: {value}" for n, value in self.about.items()]
        lines += [f"prompt {n}: {count} tokens" for n, count in self.prompts.items()]
        lines.append("")
        lines.append("The worst of each kind of hook, and its share of the allowed error:")
        lines.append(f"{'kind':40} {'ours':>8} {'transf.':>8} {'share':>8}  at")
        for each in self.hooks:
            lines.append(
                f"{each.kind:40} {each.ours:8.1e} {each.theirs:8.1e} {each.share:8.2f}  "
                f"{each.hook}, {each.prompt}"
            )
        lines.append("")
        for check in self.controls:
            mark = {True: "holds", False: "DIFFERS", None: "not there"}[check.holds]
            lines.append(f"{check.name}: {mark}; {check.said}")
        lines += [f"{n}: {value:.1f} s" for n, value in self.seconds.items()]
        if len(self.differences) > 1:
            lines += ["", f"{len(self.differences)} differences; the first is in the last line"]
        return "\n".join([*lines, "", self.line])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"format": FORMAT, "ok": self.ok, "line": self.line, **asdict(self)}

    def _summary(self) -> Summary:
        facts = {
            "result": "agrees" if self.ok else self.first,
            **{n: self.about[n] for n in ("transformers", "device", "dtype")},
            "greedy": f"{self.greedy.equal} of {self.greedy.compared}",
        }
        return Summary(f"{self.name} against transformers", facts)
