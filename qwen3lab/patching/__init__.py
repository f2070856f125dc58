"""Patching: runs a prompt with activations of another run in place, and measures the effect."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
