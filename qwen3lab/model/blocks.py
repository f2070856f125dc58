"""The blocks of a model as the forward pass sees them: in memory, or streamed from disk."""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, runtime_checkable

from torch import nn

AnyBlock = TypeVar("AnyBlock", bound=nn.Module)
AnyBlock_co = TypeVar("AnyBlock_co", bound=nn.Module, covariant=True)


@runtime_checkable
class Blocks(Protocol[AnyBlock_co]):
    """A sequence of blocks that may have their weights only while they are iterated over.

    Attributes:
        is_streamed: True if weights are read from disk during the forward pass.
        kept_bytes: bytes of streamed weights that are kept in memory between passes.
        bytes_read: bytes of streamed weights that were read so far.
        bytes_used: bytes of streamed weights that passes asked for so far, read or kept.
    """

    is_streamed: bool

    @property
    def kept_bytes(self) -> int: ...

    @property
    def bytes_read(self) -> int: ...

    @property
    def bytes_used(self) -> int: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[AnyBlock_co]: ...

    def __getitem__(self, layer: int, /) -> AnyBlock_co: ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def since(self, first: int) -> Iterator[AnyBlock_co]:
        """The blocks from layer `first` on, in order."""
        ...

    def file_stamps(self) -> list[str]:
        """Name, size and time of change of every file that weights are streamed from."""
        ...


class BlockList(nn.ModuleList, Generic[AnyBlock]):
    """Blocks whose weights are all in memory."""

    is_streamed = False
    kept_bytes = bytes_read = bytes_used = 0

    if TYPE_CHECKING:  # torch declares the elements as plain modules.

        def __iter__(self) -> Iterator[AnyBlock]: ...

        def __getitem__(self, layer: int, /) -> AnyBlock: ...  # type: ignore[override]

    def since(self, first: int) -> Iterator[AnyBlock]:
        """The blocks from layer `first` on, in order."""
        return islice(self, first, None)

    def file_stamps(self) -> list[str]:
        """No files: the weights themselves are in memory."""
        return []
