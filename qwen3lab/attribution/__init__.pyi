from .direct import (
    NEEDED as NEEDED,
    DirectAttribution as DirectAttribution,
    Part as Part,
    direct as direct,
    needed as needed,
    neurons as neurons,
)
