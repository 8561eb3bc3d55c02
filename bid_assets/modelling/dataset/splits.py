"""The split of a dataset into training and holdout rows: by time, with regard to when labels become known. Pure.

Successes become known sooner than failures. So among bids that are young at a moment, those decided by then are mostly
successes: a biased sample. A bid is **mature** once it is so old that its outcome would be known; a holdout has only such.

```
          train, embargo            holdout         immature
  ─────────────────────────────┬──────────────┬────────────────┬──► submitted
                               H      newest - maturity     newest
```

Ages are counted from the newest outcome that is known, not by the clock: where no outcomes come in, no bid grows older. So the
same outcomes make the same split whenever it is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from bid_assets.common.windows import MICROSECOND

SPLITS = ("train", "embargo", "holdout", "immature")

Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LabelRules:
    """How the split accounts for reporting delay."""

    maturity: timedelta | None = timedelta(0)
    """A bid of this age counts as one whose outcome would be known. None: to be estimated from the delays
    (`label_maturity.resolve_maturity`)."""
    train_on_mature_only: bool = False
    """Whether training, like the holdout, leaves out bids that were not mature when the holdout began."""
    impute_failure_after: timedelta | None = None
    """A bid undecided for so long counts as a failure that became known at that age; None: it stays undecided."""
    maturity_origin: str = "as set"
    """Where the maturity comes from, in words."""

    @property
    def known_maturity(self) -> timedelta:
        """The maturity. Raises `ValueError` where it is still to be estimated."""
        if self.maturity is None:
            raise ValueError("the label maturity is still to be estimated: call `resolve_maturity` first")
        return self.maturity


NO_MATURITY = LabelRules()
"""Every label counts as soon as it is there, however young its bid."""


def split_by_time(submitted: Times, known: Times, *, holdout: float, rules: LabelRules) -> npt.NDArray[np.object_]:
    """One of `SPLITS` for each row; times in microseconds, `submitted` ascending and never after `known`.

    The newest `holdout` (a share) of the mature bids, and all that share their first moment H, are the holdout; 0:
    none, and everything known may train. Younger ones are immature. What was submitted before H is train if it became
    known before H, else embargo.
    """
    maturity = rules.known_maturity // MICROSECOND
    now = int(known.max(initial=0)) + 1
    mature = int(np.searchsorted(submitted, now - maturity))
    if holdout == 0:
        begin = now
    elif mature:
        begin = int(submitted[mature - max(1, round(mature * holdout))])
    else:
        begin = now - maturity
    split = np.full(len(submitted), "embargo", dtype=object)
    split[(known < begin) & ((submitted < begin - maturity) | (not rules.train_on_mature_only))] = "train"
    split[submitted >= begin] = "holdout"
    split[submitted >= max(begin, now - maturity)] = "immature"
    return split
