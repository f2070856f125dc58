"""Attribution of a logit to what heads, MLPs and experts add to the residual stream."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
