"""Analyses that run a model: knockouts, pruning, controls, effects (also of adapters), fidelity."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
