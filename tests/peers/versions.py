"""The versions of the libraries that a run of the tests compares."""

from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("torch", "transformers", "transformer-lens", "nnsight", "interp-engine")


def versions() -> dict[str, str]:
    """The version of each package; "not installed" where there is none."""
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
