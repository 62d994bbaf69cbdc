"""Where delays begin: the least possible delay, from the smallest ones seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["lower_edge"]

# Exponents of the density at its edge (1: a hard edge, 2: rising linearly, ...) and how likely each is beforehand.
_EXPONENTS = np.array([1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0])
_PRIOR = np.log(np.array([4.0, 2.0, 1.5, 1.0, 1.0, 0.5, 0.25]))
_GRID = np.geomspace(0.02, 8.0, 40)
_RESOLUTION_S = 1e-9


def lower_edge(delays: NDArray[np.float64], count: int) -> tuple[float, float]:
    """Estimate the lower end point of the distribution of ``delays`` (shape ``(n,)``, seconds) and its deviation.

    Near the end point the density is taken for ``c * (x - edge) ** (exponent - 1)``; the ``count`` smallest delays are
    all that is looked at. The posterior mean over the distance of the edge below the smallest delay and over the
    exponent, ``c`` profiled out (censored likelihood of a Weibull edge: Smith, "Maximum likelihood estimation in a
    class of nonregular cases", Biometrika 72, 1985).

    Returns:
        edge and standard deviation, in seconds.
    """
    lowest = np.sort(np.partition(delays, count - 1)[:count] if count < len(delays) else delays)
    count = len(lowest)
    first = float(lowest[0])
    scale = float(lowest[1:].mean()) - first if count > 1 else 0.0
    if scale <= _RESOLUTION_S:
        return first, _RESOLUTION_S
    distance = _GRID * scale * 2.0 / count**0.5
    logs = np.log((lowest - first)[None, :] + distance[:, None])
    likelihood = (
        count * np.log(_EXPONENTS)[None, :]
        + (_EXPONENTS[None, :] - 1) * logs.sum(axis=1)[:, None]
        - _EXPONENTS[None, :] * count * logs[:, -1:]
        + _PRIOR[None, :]
        + np.log(distance)[:, None]  # the spacing of the grid
    )
    weight = np.exp(likelihood - likelihood.max()).sum(axis=1)
    weight /= weight.sum()
    mean = float(weight @ distance)
    return first - mean, float(weight @ (distance - mean) ** 2) ** 0.5
