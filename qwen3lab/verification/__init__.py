"""Checks published weights against `transformers`, in one command: `qwen3lab verify`."""

from qwen3lab.verification.against_transformers import verify, verify_lab
from qwen3lab.verification.report import Verification

__all__ = ["Verification", "verify", "verify_lab"]
