"""How idle threads wait in processes that the package starts."""

PASSIVE_WAITING = {"OMP_WAIT_POLICY": "passive"}
"""Environment variable of OpenMP: idle threads sleep instead of spinning on a core that another
process, such as a browser, needs. It is read when torch is first imported."""
