"""Steering vectors: directions that are added to the residual stream, and their measured effect."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
