from . import (
    adapter_effects as adapter_effects,
    controls as controls,
    costs as costs,
    effects as effects,
    fidelity as fidelity,
    knockout as knockout,
    merging as merging,
    pruning as pruning,
)
