"""What the scores take: codes, factors, and their split into rows to fit and rows to test."""

import numpy as np

Array = np.ndarray


def checked(codes: Array, factors: Array) -> tuple[Array, Array]:
    """Codes and factors as all scores take them.

    Args:
        codes: finite numbers [N, D].
        factors: integers [N, K], one column per factor, K of at least 2; the values of a factor may be any integers.

    Returns:
        Codes float64 [N, D], in which a code of one dimension gets a constant one beside it, for scores that compare
        the best dimension with the second; factors int64 [N, K] with the values 0, 1, ... in each column.

    Raises:
        ValueError: for other shapes, numbers that are not finite, factors that are no integers or have one value.
    """
    codes, factors = np.asarray(codes), np.asarray(factors)
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or not codes.shape[1]:
        raise ValueError(f"codes must be [N, D] and factors [N, K], not {codes.shape} and {factors.shape}")
    if factors.shape[1] < 2:
        raise ValueError("disentanglement of one factor is no question: give at least two columns")
    if not np.issubdtype(factors.dtype, np.integer):
        raise ValueError(f"factors must be integers, not {factors.dtype}: put continuous ones into bins")
    if not np.isfinite(codes).all():
        raise ValueError("codes must be finite")
    columns = [np.unique(column, return_inverse=True)[1] for column in factors.T]
    if fixed := [k for k, column in enumerate(columns) if column.max() == 0]:
        raise ValueError(f"factors in columns {fixed} have one value: leave them out")
    codes = codes.astype(np.float64)
    if codes.shape[1] == 1:
        codes = np.hstack([codes, np.zeros_like(codes)])
    return codes, np.stack(columns, 1).astype(np.int64)


def parts(count: int, seed: int) -> tuple[Array, Array]:
    """Two thirds of the rows to fit to and one third to test on, at random."""
    order = np.random.default_rng(seed).permutation(count)
    return np.split(order, [2 * count // 3])  # type: ignore[return-value]


def alive(codes: Array) -> Array:
    """Which dimensions vary, bool [D]; rounding is no variation."""
    spread = codes.std(0, dtype=np.float64)
    result: Array = spread > 1e-9 * np.maximum(1e-12, np.abs(codes).max(0))
    return result


def standardised(codes: Array) -> Array:
    """Codes with mean 0 and deviation 1 in every dimension; constant ones are 0."""
    living = alive(codes)
    result = np.zeros_like(codes)
    result[:, living] = (codes[:, living] - codes[:, living].mean(0)) / codes[:, living].std(0)
    return result
