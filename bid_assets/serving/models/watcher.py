"""Hot reload: follows the deployment history, loads and verifies the models it names, and swaps them in as a whole.

A request reads the state once and uses nothing else, so no response mixes versions. A model that cannot serve is rejected
with its reason; what served before stays.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from bid_assets.deployments.events import ActiveModel, Traffic, read_traffic
from bid_assets.serving.models.loaded_model import LoadedModel, ModelRejectedError
from bid_assets.serving.models.traffic_split import ACTIVE, CANARY, is_canary_profile
from bid_assets.version_store.manifest import InputRef
from bid_assets.version_store.store import CorruptVersionError, VersionNotFoundError, VersionStore

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""Seconds between two polls of the deployment history; a poll is two small reads."""
RETRY_SECONDS = 30.0
"""Seconds after which a rejected model is tried once more: its file may have been restored."""


@dataclass(frozen=True)
class ServingState:
    """The models that serve at one moment: active, canary and shadows."""

    active: LoadedModel
    since: datetime
    canary: LoadedModel | None = None
    share: float = 0.0
    """Share of the profiles whose predictions the canary makes, 0 to 1."""
    shadows: tuple[LoadedModel, ...] = ()

    def for_profile(self, profile_id: str | None) -> tuple[str, LoadedModel]:
        """Variant and model for a profile, always the same ones; a request without profile gets the active model."""
        if self.canary is not None and profile_id is not None and is_canary_profile(profile_id, self.share):
            return CANARY, self.canary
        return ACTIVE, self.active

    @property
    def models(self) -> list[LoadedModel]:
        """All of them, each once."""
        return [self.active, *([self.canary] if self.canary is not None else []), *self.shadows]

    @property
    def reads_embeddings(self) -> bool:
        """Whether any of them needs texts to be encoded."""
        return any(model.scorer.reads_embeddings for model in self.models)


@dataclass(frozen=True)
class WatcherStatus:
    """What serves, what was rejected, and what should serve, as of the last poll."""

    serving: ServingState | None = None
    rejections: dict[str, str] = field(default_factory=dict)
    """Version -> why it cannot serve."""
    error: str | None = None
    """Why the deployment history could not be read at the last poll."""
    target_version: str | None = None
    """The version that the history calls active."""

    @property
    def reason(self) -> str | None:
        """Why nothing serves, or what serves is not what should; None where all is well."""
        if self.error:
            return self.error
        if self.target_version is None:
            return "no model is active yet"
        return "; ".join(f"{version} was refused: {reason}" for version, reason in self.rejections.items()) or None


class DeploymentWatcher:
    """Keeps `status` up to date in a thread of its own, and calls `on_change` with every new status."""

    def __init__(self, store: VersionStore, fingerprint: Callable[[], str], on_change: Callable[[WatcherStatus], None]) -> None:
        self._store = store
        self._fingerprint = fingerprint
        self._on_change = on_change
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._traffic: Traffic | None = None
        self._loaded_at = 0.0
        self._thread = threading.Thread(target=self._run, name="deployment_watcher", daemon=True)
        self.status = WatcherStatus()

    def start(self) -> None:
        """Poll once, then go on in a thread."""
        self.refresh()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def refresh(self, *, force: bool = False) -> WatcherStatus:
        """Read the deployment history, and load and swap models if it has changed. `force`: try rejected models again now."""
        with self._lock:
            previous = self.status
            try:
                target = read_traffic(self._store)
            except (CorruptVersionError, OSError) as error:
                self.status = WatcherStatus(previous.serving, previous.rejections, str(error), previous.target_version)
            else:
                retry = bool(previous.rejections) and (force or time.monotonic() - self._loaded_at > RETRY_SECONDS)
                if target != self._traffic or previous.error or retry:
                    self.status = self._load(target, previous)
                    self._traffic, self._loaded_at = target, time.monotonic()
            if self.status != previous:
                self._notify(previous)
            return self.status

    def _run(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                self.refresh()
            except Exception:  # the thread must outlive whatever a store may raise
                log.exception("the deployment history could not be followed")

    def _load(self, target: Traffic, previous: WatcherStatus) -> WatcherStatus:
        loaded = {} if previous.serving is None else {model.manifest.ref: model for model in previous.serving.models}
        rejections: dict[str, str] = {}

        def load(ref: InputRef) -> LoadedModel | None:
            try:
                return loaded.get(ref) or LoadedModel.load(self._store, ref, self._fingerprint)
            except (VersionNotFoundError, CorruptVersionError, ModelRejectedError, OSError) as error:
                rejections[ref.version] = str(error)
                return None

        if target.active is None:
            return WatcherStatus(rejections=rejections)
        active = load(target.active.model)
        canary = load(target.canary.model) if target.canary is not None else None
        shadows = tuple(model for model in map(load, target.shadows) if model is not None)
        share = target.canary.share if target.canary is not None else 0.0
        serving = _next_state(previous.serving, active, target.active, canary, share, shadows)
        return WatcherStatus(serving, rejections, None, target.active.model.version)

    def _notify(self, previous: WatcherStatus) -> None:
        now = self.status
        if now.reason != previous.reason and now.reason is not None:
            log.warning("%s", now.reason)
        if now.serving is not None and now.serving != previous.serving:
            log.info("%s serves", now.serving.active.version)
        self._on_change(now)


def _next_state(
    previous: ServingState | None,
    active: LoadedModel | None,
    pointer: ActiveModel,
    canary: LoadedModel | None,
    share: float,
    shadows: tuple[LoadedModel, ...],
) -> ServingState | None:
    """The state that serves next; where the active model was rejected, the one that served before stays."""
    if active is not None:
        return ServingState(active, pointer.since, canary, share, shadows)
    return None if previous is None else ServingState(previous.active, previous.since, canary, share, shadows)
