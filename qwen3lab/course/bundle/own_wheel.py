"""The wheel of this package: made from a checkout, or given."""

import email
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import qwen3lab
from qwen3lab.course.bundle.closure import run_pip
from qwen3lab.errors import StorageError
from qwen3lab.translation import tr


def own_wheel(folder: Path, given: Path | None = None) -> Path:
    """Put the wheel of this package into a folder, and return it.

    Args:
        folder: for the wheel.
        given: a wheel that was built before; None builds one from the checkout.

    Raises:
        StorageError: the given file is no wheel of qwen3lab, or there is no checkout.
    """
    if given is not None:
        requirements_of(given)
        return _moved(given, folder)
    root = Path(qwen3lab.__file__).parents[1]
    if not (root / "pyproject.toml").is_file():
        raise StorageError(
            tr(
                "the wheel of qwen3lab is built from a checkout, and this is an installed package: "
                "give a wheel with --wheel"
            )
        )
    with TemporaryDirectory() as built:
        run_pip(["wheel", "--no-deps", "--quiet", "-w", built, str(root)], tr("to build qwen3lab"))
        return _moved(next(Path(built).glob("qwen3lab-*.whl")), folder)


def requirements_of(wheel: Path) -> list[str]:
    """The requirements that a wheel of qwen3lab states.

    Raises:
        StorageError: the file is no such wheel.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
            metadata = email.message_from_bytes(archive.read(name))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise StorageError(
            tr("{wheel} cannot be read as a wheel: {error}", wheel=wheel, error=error)
        ) from error
    if metadata["Name"] != "qwen3lab":
        raise StorageError(
            tr(
                "{wheel} is a wheel of {package}: expected one of qwen3lab",
                wheel=wheel,
                package=metadata["Name"],
            )
        )
    return metadata.get_all("Requires-Dist", [])


def _moved(wheel: Path, folder: Path) -> Path:
    """A copy of the wheel, in place of those of other versions."""
    for old in folder.glob("qwen3lab-*.whl"):
        old.unlink()
    copied = folder / wheel.name
    copied.write_bytes(wheel.read_bytes())
    return copied
