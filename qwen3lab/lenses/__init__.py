"""Lenses: the next token that each layer predicts, by the logit, tuned and Jacobian lens."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
