"""What the machine gives: dtypes, copies between a GPU and the host, the C allocator."""

from qwen3lab.device.dtypes import DTYPES, dtype_of

__all__ = ["DTYPES", "dtype_of"]
