"""Recording at scale: many texts, in one process or on a Ray cluster, into tables on disk."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
