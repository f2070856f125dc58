"""Dtypes, threads, copies between GPU and host, and settings of the C allocator."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
