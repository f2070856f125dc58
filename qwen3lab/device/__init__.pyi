from .dtypes import DTYPES as DTYPES, dtype_of as dtype_of
