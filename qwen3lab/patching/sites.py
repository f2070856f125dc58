"""Sites: the kinds of activations that can be patched, and the layers and axes of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.hooks.points import hook_names
from qwen3lab.lab import Lab
from qwen3lab.patching import changes
from qwen3lab.translation import tr


@dataclass(frozen=True)
class Site:
    """A kind of activation that can be patched.

    Attributes:
        name: as given to `patch`.
        meaning: what one patch replaces.
        hook: that is edited, with `{l}` for the layer.
        axes: axes of the result after the layer, for each `by`; the first is the default.
        change: the activation after a patch.
        needs: further hooks.
        moves: False if positions must be the same in both runs, as the keys of a pattern.
    """

    name: str
    meaning: str
    hook: str
    axes: Mapping[str, tuple[str, ...]]
    change: changes.Change = changes.replaced
    needs: tuple[str, ...] = ()
    moves: bool = True

    def hooks(self, layers: Sequence[int]) -> list[str]:
        """The hooks of some layers that have to be kept."""
        return [hook.format(l=layer) for layer in layers for hook in (self.hook, *self.needs)]

    def layers(self, config: Qwen3Config) -> list[int]:
        """The layers that have the site."""
        known = hook_names(config)
        return [
            layer
            for layer in range(config.n_layers)
            if all(hook in known for hook in self.hooks([layer]))
        ]

    def n_parts(self, config: Qwen3Config, own: changes.Activations, layer: int) -> int:
        """The number of heads, neurons or experts of a layer."""
        if self.change is not changes.replaced and self.change is not changes.pattern:
            return config.n_experts
        return own[self.hook.format(l=layer)].shape[0 if self.change is changes.pattern else 1]


_TOKEN = {"token": ("token",)}
_HEAD = {"head": ("head",), "token": ("head", "token")}
_KV_HEAD = {"head": ("kv_head",), "token": ("kv_head", "token")}
_NEURON = {"neuron": ("neuron",), "token": ("neuron", "token")}
_ROUTED = {"token": ("token",), "expert": ("expert",)}
_EXPERT = {"expert": ("expert",), "token": ("expert", "token")}

SITES = {
    site.name: site
    for site in (
        Site(
            "resid_pre", "the residual stream entering a block", "blocks.{l}.hook_resid_pre", _TOKEN
        ),
        Site(
            "resid_mid", "the residual stream before the MLP", "blocks.{l}.hook_resid_mid", _TOKEN
        ),
        Site(
            "resid_post",
            "the residual stream leaving a block",
            "blocks.{l}.hook_resid_post",
            _TOKEN,
        ),
        Site("attn_out", "what attention adds", "blocks.{l}.hook_attn_out", _TOKEN),
        Site("mlp_out", "what the MLP or the experts add", "blocks.{l}.hook_mlp_out", _TOKEN),
        Site("z", "a head's mixed values", "blocks.{l}.attn.hook_z", _HEAD),
        Site("q", "a head's queries", "blocks.{l}.attn.hook_q", _HEAD),
        Site("k", "a key/value head's keys", "blocks.{l}.attn.hook_k", _KV_HEAD),
        Site("v", "a key/value head's values", "blocks.{l}.attn.hook_v", _KV_HEAD),
        Site(
            "pattern",
            "where a head looks",
            "blocks.{l}.attn.hook_pattern",
            _HEAD,
            changes.pattern,
            moves=False,
        ),
        Site("neuron", "a neuron of one dense layer", "blocks.{l}.mlp.hook_post", _NEURON),
        Site("router", "router logits", "blocks.{l}.mlp.hook_router_logits", _ROUTED),
        Site(
            "expert_choice",
            "which experts are chosen",
            changes.INDICES,
            _ROUTED,
            changes.expert_choice,
        ),
        Site(
            "expert_weight",
            "weights of chosen experts",
            changes.WEIGHTS,
            _ROUTED,
            changes.expert_weights,
            (changes.INDICES,),
        ),
        Site(
            "expert_out",
            "outputs of chosen experts",
            changes.OUT,
            _ROUTED,
            changes.expert_outputs,
            (changes.INDICES,),
        ),
        Site(
            "expert",
            "what an expert adds, its weight times its output",
            "blocks.{l}.hook_mlp_out",
            _EXPERT,
            changes.contribution,
            (changes.INDICES, changes.WEIGHTS, changes.OUT),
        ),
    )
}
"""The sites by name.

Head sites patch all aligned positions of a head; with `by="token"` one position. `router`,
`expert_choice`, `expert_weight` and `expert_out` patch all experts of a token; with `by="expert"`,
one expert at all aligned positions:

- `router`: choice and weights both follow from the other run's logits;
- `expert_choice`: the experts are those of the other run, and their weights follow from this run's
  own router logits; by expert, one expert is added or removed and the others stay;
- `expert_weight`: this run's experts stay, and each has its weight in the other run, which is 0 if
  it was not chosen there;
- `expert_out`: this run's experts stay, and those that the other run chose at this token, too, have
  the output that they had there;
- `expert`: what one expert adds to the residual stream is what it added in the other run, nothing
  if it was not chosen there. An expert that only the other run chose is added.
"""


def site_of(lab: Lab, name: str, by: str | None) -> tuple[Site, tuple[str, ...]]:
    """A site, and the axes of its result after the layer.

    Raises:
        ValueError: there is no such site or no such axis, or the model does not have it.
    """
    if name not in SITES:
        raise ValueError(
            tr("there is no site {name!r}: choose from {sites}", name=name, sites=", ".join(SITES))
        )
    site = SITES[name]
    if by is not None and by not in site.axes:
        raise ValueError(
            tr(
                "site {name!r} has no by={by!r}: choose from {axes}",
                name=name,
                by=by,
                axes=", ".join(site.axes),
            )
        )
    if not site.layers(lab.config):
        kind = tr("layers without experts") if name == "neuron" else tr("experts")
        raise ValueError(
            tr(
                "site {name!r} does not exist: {model} has no {kind}",
                name=name,
                model=lab.name,
                kind=kind,
            )
        )
    axes = site.axes[by or next(iter(site.axes))]
    if name == "expert_choice" and axes == ("expert",) and lab.config.n_experts_per_token < 2:
        raise ValueError(
            tr(
                'by="expert" would leave tokens without an expert: {name} chooses one '
                'for each token; use by="token"',
                name=lab.name,
            )
        )
    return site, axes


def layers_of_site(lab: Lab, site: Site, layers: Sequence[int] | None) -> tuple[int, ...]:
    """The layers to sweep, counted from 0.

    Raises:
        ValueError: a layer that does not exist or does not have the site, or not one for neurons.
    """
    have, n = site.layers(lab.config), lab.config.n_layers
    if site.name == "neuron" and (layers is None or len(layers) != 1):
        raise ValueError(tr("site 'neuron' is for one layer at a time: name it, as in layers=[0]"))
    chosen = have if layers is None else list(layers)
    if not chosen:
        raise ValueError(tr("layers is empty: name at least one layer, or leave it out for all"))
    for layer in chosen:
        if not -n <= layer < n:
            raise ValueError(
                tr(
                    "layer {layer} does not exist: {name} has layers 0 to {last}",
                    layer=layer,
                    name=lab.name,
                    last=n - 1,
                )
            )
        if layer % n not in have:
            raise ValueError(
                tr(
                    "layer {layer} has no site {name!r}: layers that have it are {listed}",
                    layer=layer,
                    name=site.name,
                    listed=", ".join(map(str, have)),
                )
            )
    return tuple(dict.fromkeys(layer % n for layer in chosen))
