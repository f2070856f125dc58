from .plan import CorpusPlan as CorpusPlan
from .recorder import record as record
from .routed_experts import from_routed_experts as from_routed_experts
from .run import CorpusRun as CorpusRun, open as open
