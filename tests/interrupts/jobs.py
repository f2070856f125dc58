"""The table of long jobs, with what each promises after an interrupt and after a kill.

Common to all after an interrupt: the labs compute the same numbers as before, their locks are free,
settings of the process are as before, no file stays open, and no temporary file stays.
"""

from tests.interrupts.file_jobs import FILE_JOBS
from tests.interrupts.model_jobs import MODEL_JOBS
from tests.interrupts.reply_jobs import REPLY_JOBS
from tests.interrupts.table import Job

JOBS: list[Job] = [*MODEL_JOBS, *REPLY_JOBS, *FILE_JOBS]
