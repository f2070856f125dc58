"""Steering vectors: directions that are added to the residual stream, and their measured effect."""

import lazy_loader

# nnsight gives every object an attribute `save`, modules too: a lazy one would not be looked up.
from qwen3lab.steering.files import save as save

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
