"""Head scores: attention to the key positions of a known mechanism, such as induction.

The first three scores follow TransformerLens' demonstration of head detection: the mean
attention along a diagonal of the pattern, on a repeated sequence.
"""

from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.arguments import Count, checked
from qwen3lab.translation import tr


@checked
def previous_token_score(
    pattern: Float[Tensor, "head query key"],
) -> Float[Tensor, " head"]:
    """Mean attention from a token to the previous token.

    Raises:
        ValueError: fewer than two tokens.
    """
    return _diagonal(pattern, 1, first=1)


@checked
def duplicate_token_score(
    pattern: Float[Tensor, "head query key"], period: Count
) -> Float[Tensor, " head"]:
    """Mean attention from a token to its last occurrence, in a sequence with a period.

    Args:
        pattern: of a sequence of different tokens that is repeated at least once.
        period: number of tokens before it repeats.

    Raises:
        ValueError: the sequence is not longer than its period.
    """
    return _diagonal(pattern, period, first=period)


@checked
def induction_score(
    pattern: Float[Tensor, "head query key"], period: Count
) -> Float[Tensor, " head"]:
    """Mean attention from a token to the token after its last occurrence.

    Args:
        pattern: of a sequence of different tokens that is repeated at least once.
        period: number of tokens before it repeats.

    Raises:
        ValueError: the sequence is not longer than its period.

    Source: Olsson et al., "In-context learning and induction heads" (2022).
    """
    return _diagonal(pattern, period - 1, first=period)


@checked
def attention_between(
    pattern: Float[Tensor, "head query key"],
    queries: Int[Tensor, " pair"],
    keys: Int[Tensor, " pair"],
) -> Float[Tensor, " head"]:
    """Mean attention over pairs of a query and a key position.

    Raises:
        ValueError: no pairs, or a position outside of the pattern.
    """
    n_queries, n_keys = pattern.shape[1:]
    if not len(queries):
        raise ValueError(tr("there are no pairs of positions: expected at least one"))
    for name, positions, n in (("query", queries, n_queries), ("key", keys, n_keys)):
        outside = positions[(positions < 0) | (positions >= n)]
        if len(outside):
            raise ValueError(
                tr(
                    "{name} {outside} does not exist: the pattern has positions 0 to {last}",
                    name=name,
                    outside=int(outside[0]),
                    last=n - 1,
                )
            )
    return pattern[:, queries, keys].mean(dim=-1)


def _diagonal(
    pattern: Float[Tensor, "head query key"], back: int, *, first: int
) -> Float[Tensor, " head"]:
    """Mean attention from each query, from `first` on, to the key `back` positions earlier."""
    n = pattern.shape[1]
    if pattern.shape[2] != n:
        raise ValueError(
            tr(
                "the pattern has {n} queries and {shape} keys: expected the whole pattern",
                n=n,
                shape=pattern.shape[2],
            )
        )
    if n <= first:
        raise ValueError(
            tr("the pattern has {n} tokens: expected more than {first}", n=n, first=first)
        )
    return pattern.diagonal(offset=-back, dim1=1, dim2=2)[:, first - back :].mean(dim=-1)
