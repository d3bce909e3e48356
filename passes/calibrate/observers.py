"""Observers: from what was seen of a value to the range of it that codes are laid on.

A range that leaves the rare far values out gives the others finer steps. All observers look at
the histogram, whose values count as spread evenly inside a bin, and zeros as what they are;
none goes beyond the extremes that were seen. Which is best depends on the value: see the README.

Sources: Wu et al. 2020, arXiv:2004.09602 (section 4: max, percentile, entropy); Nagel et al.
2021, arXiv:2106.08295 (section 3.1: MSE); Migacz 2017, "8-bit inference with TensorRT", GTC
(entropy).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tapeout.passes.calibrate.codes import Codes, Scaling
from tapeout.passes.calibrate.histogram import HALF, Histogram
from tapeout.passes.calibrate.statistics import Statistics

Floats: TypeAlias = NDArray[np.float64]
Range: TypeAlias = tuple[float, float]
Observer: TypeAlias = Callable[[Statistics, Codes], Range]
Loss: TypeAlias = Callable[[Floats, Floats], Floats]

FACTORS: Floats = 2.0 ** (-np.arange(81) / 8)
"""Thresholds that a search tries, of the largest magnitude: down to 1/1024, 9 % apart."""
NEARBY: Floats = 2.0 ** (np.arange(-15, 16) / 128)
"""Then these about the best: 0.5 % apart."""


def scaling(seen: Statistics, codes: Codes, observer: Observer) -> Scaling:
    """The scale and zero point that ``observer`` gives a value; scale 1 if it was always zero."""
    return codes.fit(*observer(seen, codes))


def min_max(seen: Statistics, codes: Codes) -> Range:
    """All that was seen: nothing is clipped."""
    return (min(seen.low, 0.0), max(seen.high, 0.0))


def percentile(seen: Statistics, codes: Codes, percent: float = 99.99) -> Range:
    """The range that holds ``percent`` of all values.

    Symmetric codes: ``|x|`` up to that quantile. Affine: half of the rest is left out at each end.
    """
    assert 0 < percent <= 100, f"{percent} %"
    low, high = min_max(seen, codes)
    if codes.symmetric:
        threshold = _quantile(_folded(seen.histogram), percent / 100)
        return (max(low, -threshold), min(high, threshold))
    rest = (1 - percent / 100) / 2
    ends = [_quantile(seen.histogram, q) for q in (rest, 1 - rest)]
    return (max(low, min(ends[0], 0.0)), min(high, max(ends[1], 0.0)))


def mse(seen: Statistics, codes: Codes) -> Range:
    """The range with the least mean squared error, ``E[(x - decode(encode(x)))^2]``.

    One threshold clips both ends; affine codes then move each end by itself. The full range is
    among the candidates, so the error is never above that of :func:`min_max`.
    """
    loss = partial(squared_errors, seen.histogram, codes)
    full = min_max(seen, codes)
    best = _search(loss, full, full)
    if not codes.symmetric:
        best = _search(loss, full, best, high=False)
        best = _search(loss, full, best, low=False)
    return best


def entropy(seen: Statistics, codes: Codes) -> Range:
    """The threshold with the least Kullback-Leibler divergence of values from their codes.

    ``P``: the histogram, with what is beyond the threshold added to its last bins. ``Q``: what is
    inside, spread evenly over the bins of each code that hold something. As zero is exact, zeros
    are in neither. A range of fewer bins than codes tells nothing, and is not tried.
    """
    loss = partial(divergences, seen.histogram, codes)
    full = min_max(seen, codes)
    return _search(loss, full, full)


OBSERVERS: Mapping[str, Observer] = {
    "min-max": min_max,
    "percentile": percentile,
    "mse": mse,
    "entropy": entropy,
}


def squared_errors(seen: Histogram, codes: Codes, low: Floats, high: Floats) -> Floats:
    """The sum of squared errors of all values for each of several ranges.

    Exact for values spread evenly inside a bin, however many bins a code has: with the code
    ``k`` (zero point off) nearest to ``x``, and ``t = x - k*s``, the integral of the squared error
    up to ``x`` is ``k*s^3/12 + t^3/3``: each whole step before it left ``s^3/12``.
    """
    by = codes.fit(low, high)
    step = by.scale.astype(np.float64)[..., None]
    zero = by.zero_point[..., None]
    edges, counts = seen.occupied()
    code = np.clip(np.rint(edges / step), codes.low - zero, codes.high - zero)
    # In units of a step: codes are small numbers, and the steps of a value may be minute.
    off = edges / step - code
    integral = code / 12 + off * off * off / 3
    # The sum of counts times differences of the integral, by parts.
    total = -(integral @ np.diff(counts, prepend=0, append=0))
    return total * (step[..., 0] / seen.width) * step[..., 0] ** 2


def divergences(seen: Histogram, codes: Codes, low: Floats, high: Floats) -> Floats:
    """``KL(P || Q)`` of :func:`entropy` for each of several ranges; ``inf`` for too few bins."""
    by = codes.fit(low, high)
    ranges = zip(by.scale.tolist(), by.zero_point.tolist(), low, high, strict=True)
    return np.array([_divergence(seen, codes, *each) for each in ranges])


def _divergence(
    seen: Histogram, codes: Codes, step: float, zero: int, low: float, high: float
) -> float:
    edges, counts = seen.occupied()
    centres = (edges[:-1] + edges[1:]) / 2
    inside = np.nonzero((edges[1:] > low) & (edges[:-1] < high))[0]
    if not inside.size or seen.width > step:
        return np.inf
    first, last = int(inside[0]), int(inside[-1]) + 1
    own = counts[first:last].astype(np.float64)
    p = own.copy()
    p[0] += counts[:first].sum()
    p[-1] += counts[last:].sum()
    held = own > 0
    code = np.clip(np.rint(centres[first:last] / step), codes.low - zero, codes.high - zero)
    group = (code - code[0]).astype(np.intp)
    bins = np.bincount(group, held)
    spread = np.bincount(group, own) / np.maximum(bins, 1)
    return _kl(p, np.where(held, spread[group], 0.0))


def _kl(p: Floats, q: Floats) -> float:
    """``KL(p || q)`` of counts, with a little of ``p``'s support in ``q`` so that it is finite."""
    held = p > 0
    if not held.any() or not q.any():
        return np.inf
    p, q = p[held] / p.sum(), q[held] / q.sum()
    q = q * (1 - 1e-4) + 1e-4 / len(q)
    return float((p * np.log(p / q)).sum())


def _search(loss: Loss, full: Range, best: Range, *, low: bool = True, high: bool = True) -> Range:
    """The range of least loss among ``best`` and those that clip ends of ``full`` at a threshold.

    ``low`` and ``high`` say which ends; the other one stays that of ``best``.
    """
    top = max(-full[0] * low, full[1] * high)

    def better(best: Range, thresholds: Floats) -> Range:
        clipped = (np.maximum(full[0], -thresholds), np.minimum(full[1], thresholds))
        lows = np.append(best[0], clipped[0] if low else np.full_like(thresholds, best[0]))
        highs = np.append(best[1], clipped[1] if high else np.full_like(thresholds, best[1]))
        # At a tie the first one, which is ``best``.
        chosen = int(np.argmin(loss(lows, highs)))
        return (float(lows[chosen]), float(highs[chosen]))

    best = better(best, top * FACTORS)
    found = max(-best[0] * low, best[1] * high)
    return better(best, np.minimum(found * NEARBY, top))


def _folded(seen: Histogram) -> Histogram:
    """The histogram of the magnitudes."""
    counts = np.zeros_like(seen.counts)
    counts[HALF:] = seen.counts[HALF:] + seen.counts[:HALF][::-1]
    return Histogram(seen.exponent, seen.zeros, counts)


def _quantile(seen: Histogram, share: float) -> float:
    """The value that ``share`` of all values do not exceed; 0 when there are none."""
    edges, counts = seen.occupied()
    wanted = share * seen.total
    negative = int(seen.counts[:HALF].sum())
    if negative <= wanted <= negative + seen.zeros:
        return 0.0
    wanted -= seen.zeros if wanted > negative else 0
    reached = np.append(0, np.cumsum(counts))
    bin = max(int(np.searchsorted(reached, wanted)) - 1, 0)
    inside = (wanted - reached[bin]) / (reached[bin + 1] - reached[bin])
    return float(edges[bin] + inside * seen.width)
