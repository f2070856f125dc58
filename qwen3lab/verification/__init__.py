"""Checks published weights against `transformers`, in one command: `qwen3lab verify`."""

from qwen3lab.verification.report import Verification
from qwen3lab.verification.verify import verify, verify_lab

__all__ = ["Verification", "verify", "verify_lab"]
