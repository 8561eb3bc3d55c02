"""Follows the deployment history: loads and verifies what is to serve beside what serves, and swaps it in as a whole.

A request takes `current` once and uses nothing else, so no answer mixes versions. A model that cannot serve is refused with
its reason; what served before stays.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from bid_assets.deployments.events import ActiveModel, Traffic, traffic
from bid_assets.serving.models.loaded_model import Scorer, Unusable
from bid_assets.version_store.manifest import InputRef
from bid_assets.version_store.store import CorruptVersionError, VersionNotFoundError, VersionStore

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0
"""Seconds between two looks at the pointer; a look is two small reads."""
TRY_AGAIN_AFTER = 30.0
"""Seconds after which a refused model is tried once more: its file may have been restored."""
ACTIVE, CANARY, SHADOW = "active", "canary", "shadow"


@dataclass(frozen=True)
class Serving:
    """All that answers or scores at one moment."""

    active: Scorer
    since: datetime
    canary: Scorer | None = None
    share: float = 0.0
    """Of the profiles, for the canary."""
    shadows: tuple[Scorer, ...] = ()

    def for_profile(self, profile_id: str | None) -> tuple[str, Scorer]:
        """Who answers for a profile, the same one every time; a request without profile gets the active model."""
        if self.canary is not None and profile_id is not None and _place(profile_id) < self.share:
            return CANARY, self.canary
        return ACTIVE, self.active

    @property
    def scorers(self) -> list[Scorer]:
        """All of them, each once."""
        return [self.active, *([self.canary] if self.canary is not None else []), *self.shadows]

    @property
    def reads_embeddings(self) -> bool:
        """Whether texts have to be encoded for any of them."""
        return any(scorer.model.reads_embeddings for scorer in self.scorers)


@dataclass(frozen=True)
class Status:
    """What the follower has seen last."""

    serving: Serving | None = None
    refused: dict[str, str] = field(default_factory=dict)
    """Version -> why it cannot serve."""
    trouble: str | None = None
    """Why the deployment history itself could not be read just now."""
    wanted: str | None = None
    """The version that the history calls active."""

    @property
    def reason(self) -> str | None:
        """Why nothing serves, or what serves is not what should; None where all is well."""
        if self.trouble:
            return self.trouble
        if self.wanted is None:
            return "no model is active yet"
        told = "; ".join(f"{version} was refused: {why}" for version, why in self.refused.items())
        return told or None


class Follower:
    """Keeps `status` up to date in a thread of its own. `swapped` is told of everything that newly serves or is refused."""

    def __init__(self, store: VersionStore, fingerprint: Callable[[], str], swapped: Callable[[Status], None]) -> None:
        self._store = store
        self._fingerprint = fingerprint
        self._swapped = swapped
        self._turn = threading.Lock()
        self._stop = threading.Event()
        self._seen: Traffic | None = None
        self._tried_at = 0.0
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)
        self.status = Status()

    def start(self) -> None:
        """Look once, then go on looking."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self, *, again: bool = False) -> Status:
        """Look at the pointer, and swap if it has moved. `again`: try refused models anew."""
        with self._turn:
            before = self.status
            try:
                found = traffic(self._store)
            except (CorruptVersionError, OSError) as error:
                self.status = Status(before.serving, before.refused, str(error), before.wanted)
            else:
                retry = bool(before.refused) and (again or time.monotonic() - self._tried_at > TRY_AGAIN_AFTER)
                if found != self._seen or before.trouble or retry:
                    self.status = self._loaded(found, before)
                    self._seen, self._tried_at = found, time.monotonic()
            if self.status != before:
                self._tell(before)
            return self.status

    def _follow(self) -> None:
        while not self._stop.wait(LOOK_EVERY):
            try:
                self.look()
            except Exception:  # the thread must outlive whatever a store may raise
                log.exception("the deployment history could not be followed")

    def _loaded(self, found: Traffic, before: Status) -> Status:
        there = {} if before.serving is None else {scorer.manifest.ref: scorer for scorer in before.serving.scorers}
        refused: dict[str, str] = {}

        def load(model: InputRef) -> Scorer | None:
            try:
                return there.get(model) or Scorer.load(self._store, model, self._fingerprint)
            except (VersionNotFoundError, CorruptVersionError, Unusable, OSError) as error:
                refused[model.version] = str(error)
                return None

        if found.active is None:
            return Status(refused=refused)
        active = load(found.active.model)
        canary = load(found.canary.model) if found.canary is not None else None
        shadows = tuple(scorer for scorer in map(load, found.shadows) if scorer is not None)
        share = found.canary.share if found.canary is not None else 0.0
        serving = _with(before.serving, active, found.active, canary, share, shadows)
        return Status(serving, refused, None, found.active.model.version)

    def _tell(self, before: Status) -> None:
        now = self.status
        if now.reason != before.reason and now.reason is not None:
            log.warning("%s", now.reason)
        if now.serving is not None and now.serving != before.serving:
            log.info("%s serves", now.serving.active.version)
        self._swapped(now)


def _with(
    before: Serving | None,
    active: Scorer | None,
    pointer: ActiveModel,
    canary: Scorer | None,
    share: float,
    shadows: tuple[Scorer, ...],
) -> Serving | None:
    """What serves next; where the active model was refused, the one that served before goes on."""
    if active is not None:
        return Serving(active, pointer.since, canary, share, shadows)
    return None if before is None else Serving(before.active, before.since, canary, share, shadows)


def _place(profile_id: str) -> float:
    """Where a profile falls in [0, 1), evenly; not by the hash that chooses the profiles which calibrate."""
    return int.from_bytes(hashlib.sha256(b"canary\0" + profile_id.encode("utf-8", "surrogatepass")).digest()[:8]) / 2**64
