"""Which rows of a dataset learn, calibrate and judge: split by time, with regard to when labels become known. Pure.

Successes become known sooner than failures. So among bids that are young at a moment, those decided by then are mostly
successes: no fair sample. A bid is **mature** once it is so old that its outcome would be known; only mature bids judge and
calibrate.

```
   train, calibration, embargo      holdout         immature
  ─────────────────────────────┬──────────────┬────────────────┬──► submitted
                               H      newest - maturity     newest
```

Where the profiles that calibrate have too few mature bids of either class for a calibration (`CALIBRATES_FROM`), they train like all
others: set aside, they would be of no use to anybody.

Ages are counted from the newest outcome that is known, not by the clock: where no outcomes come in, no bid grows older. So the
same outcomes make the same split whenever it is made.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

SPLITS = ("train", "calibration", "embargo", "holdout", "immature")

CALIBRATES_FROM = 100
"""Fewest bids of either class that a calibration is fitted to."""

Times = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LabelRules:
    """What is made of the time that labels take."""

    maturity: timedelta | None = timedelta(0)
    """A bid of this age counts as one whose outcome would be known. None: to be learnt from the delays (`maturity.settled`)."""
    train_on_mature_only: bool = False
    """Whether training, like judging, leaves out bids that were not mature when the holdout began."""
    presumed_failed_after: timedelta | None = None
    """A bid undecided for so long counts as a failure that became known at that age; None: it stays undecided."""
    maturity_origin: str = "as set"
    """Where the maturity comes from, in words."""

    @property
    def known_maturity(self) -> timedelta:
        """The maturity. Raises `ValueError` where it is still to be learnt."""
        if self.maturity is None:
            raise ValueError("the label maturity is still to be learnt: settle the rules first")
        return self.maturity


AS_DECIDED = LabelRules()
"""Every label counts as soon as it is there, however young its bid."""


def split_by_time(
    submitted: Times, known: Times, success: Flags, calibrates: Flags, *, holdout: float, rules: LabelRules
) -> npt.NDArray[np.object_]:
    """One of `SPLITS` for each row; times in microseconds, `submitted` ascending and never after `known`.

    The newest `holdout` (a share) of the mature bids, and all that share their first moment H, are the holdout; 0: none, and everything known may train.
    Younger ones are immature. What was submitted before H is train or calibration if it became known before H, else embargo; calibration must
    have been mature at H too. `calibrates`: the rows of profiles that are to calibrate; they do where there are enough.
    """
    maturity = rules.known_maturity // timedelta(microseconds=1)
    now = int(known.max(initial=0)) + 1
    mature = int(np.searchsorted(submitted, now - maturity))
    if holdout == 0:
        begin = now
    elif mature:
        begin = int(submitted[mature - max(1, round(mature * holdout))])
    else:
        begin = now - maturity
    was_mature = submitted < begin - maturity
    learns = known < begin
    calibration = learns & calibrates & was_mature
    if min((calibration & success).sum(), (calibration & ~success).sum()) < CALIBRATES_FROM:
        calibration, calibrates = np.zeros((2, len(submitted)), dtype=bool)
    split = np.full(len(submitted), "embargo", dtype=object)
    split[learns & ~calibrates & (was_mature | (not rules.train_on_mature_only))] = "train"
    split[calibration] = "calibration"
    split[submitted >= begin] = "holdout"
    split[submitted >= max(begin, now - maturity)] = "immature"
    return split


def calibrating(profiles: pa.Array | pa.ChunkedArray, share: float) -> Flags:
    """Whether each row's profile is among the `share` of all possible profiles that calibrate, chosen by a hash; the same for ever.

    Whole profiles, of any time: so the calibration is as fresh as the training.
    """
    if not share:
        return np.zeros(len(profiles), dtype=bool)
    encoded = profiles.combine_chunks() if isinstance(profiles, pa.ChunkedArray) else profiles
    encoded = encoded.dictionary_encode()
    chosen = np.array([_place(str(name)) < share for name in encoded.dictionary.to_pylist()], dtype=bool)
    return chosen[np.asarray(encoded.indices)] if len(chosen) else np.zeros(0, dtype=bool)


def _place(name: str) -> float:
    """Where a name falls in [0, 1), evenly."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
