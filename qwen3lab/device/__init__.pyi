from .dtypes import DTYPES as DTYPES, device_of as device_of, dtype_of as dtype_of
