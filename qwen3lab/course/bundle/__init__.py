"""A folder, such as on a USB stick, from which the package installs without a network."""

from qwen3lab.course.bundle.folder import check_bundle, write_bundle
from qwen3lab.course.bundle.targets import PLATFORMS, Target, targets

__all__ = ["PLATFORMS", "Target", "check_bundle", "targets", "write_bundle"]
