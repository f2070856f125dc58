"""Dtypes, copies between GPU and host, and settings of the C allocator."""

from qwen3lab.device.dtypes import DTYPES, device_of, dtype_of

__all__ = ["DTYPES", "device_of", "dtype_of"]
