"""Interrupts and kills at drawn moments of every long job, against the table in `jobs`.

A case runs a job, interrupts it (SIGINT, which raises KeyboardInterrupt) or kills it (SIGKILL) at
one moment, and then checks three promises: what was finished is kept, the same call gives the same
values bit for bit, and the lab and the process are as before. A moment is a place in the code and
how often it has been passed, so a failure repeats.
"""
