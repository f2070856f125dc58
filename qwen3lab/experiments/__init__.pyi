from . import (
    controls as controls,
    costs as costs,
    effects as effects,
    fidelity as fidelity,
    knockout as knockout,
)
