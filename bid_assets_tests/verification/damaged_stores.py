"""A small store with a history in it, and ways to damage any of its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bid_assets.common.windows import Cadence
from bid_assets.deployments.events import Action, Event, ModelState, append_event, read_history, read_traffic, record_decision
from bid_assets.deployments.retraining_requests import pending_requests, request_retraining
from bid_assets.verification.damage import Finding
from bid_assets.verification.repair import Outcome
from bid_assets.verification.restoring import RestoringStore
from bid_assets.version_store.manifest import Draft, InputRef, VersionKey
from bid_assets.version_store.store import VersionStore
from bid_assets.version_store.store_metadata import read_metadata, remember_cadence
from bid_assets_tests.version_store.drafts import head_text, write_text

WINDOWS = ("2026-01-05", "2026-01-12")
ASSETS = ("raw_bids", "trained_model", "deployment")

DAMAGES: Mapping[str, Callable[[bytes, int], bytes | None]] = {
    "deleted": lambda content, where: None,
    "emptied": lambda content, where: b"",
    "truncated": lambda content, where: content[: where % len(content)],
    "flipped": lambda content, where: _flipped(content, where),
    "replaced": lambda content, where: b"{}",
}


@dataclass
class SmallStore:
    """Two windows of three assets, each but the decisions in two versions; a history of events; retraining requests;
    metadata."""

    store: VersionStore
    texts: dict[VersionKey, tuple[Draft, str]] = field(default_factory=dict)

    @classmethod
    def fill(cls, store: VersionStore) -> SmallStore:
        made = cls(store)
        remember_cadence(store, Cadence.WEEKLY)
        for window in WINDOWS:
            made._write("raw_bids", window, "read too soon")
            early = made._write("trained_model", window, "learned too soon", made._ref("raw_bids", window))
            record_decision(store, early, ModelState.REJECTED, "too few", made._write("deployment", window, "no", early), "run")
            made._write("raw_bids", window, "bids")
            model = made._write("trained_model", window, "model", made._ref("raw_bids", window))
            record_decision(store, model, ModelState.ACTIVE, "good", made._write("deployment", window, "yes", model), "run")
        append_event(store, read_history(store), Event(Action.SHADOW, early, "ann", "let us see"))
        request_retraining(store, "drift", "amounts have doubled")
        return made

    def _write(self, asset: str, window: str, text: str, *inputs: InputRef) -> InputRef:
        draft: dict[str, Any] = {"asset": asset, "inputs": inputs, "rows": 1}
        manifest = write_text(self.store, text, window, **draft).manifest
        self.texts[asset, window, manifest.version] = (
            Draft(asset, window, "txt", manifest.content_hash, inputs, rows=1),
            text,
        )
        return manifest.ref

    def _ref(self, asset: str, window: str) -> InputRef:
        head = self.store.head(asset, window)
        assert head is not None
        return head.ref

    def remake(self, finding: Finding) -> Outcome:
        """What the assets do in earnest."""
        assert finding.version is not None
        store = RestoringStore(self.store.url, finding, replaceable=finding.readers)
        draft, text = self.texts[finding.version]
        written = store.write(draft, lambda path: _write(path, text))
        return Outcome("made again", store.restored is not None and written.manifest.content_hash == draft.content_hash)

    def cannot_remake(self, finding: Finding) -> Outcome:
        """What they do where an input is gone."""
        return Outcome("lost", False)

    def reading(self) -> dict[str, object]:
        """All that readers get."""
        store = self.store
        return {
            "assets": store.assets(),
            "heads": {(asset, key): head_text(store, key, asset) for asset in ASSETS for key in store.partitions(asset)},
            "history": read_history(store),
            "traffic": read_traffic(store),
            "requests": pending_requests(store),
            "metadata": read_metadata(store),
        }

    def damage(self, path: str, how: str, where: int = 0) -> None:
        """Do to a file what a disk or a person does."""
        content = self.store.files.read(path)[0]
        assert content
        new = DAMAGES[how](content, where)
        if new is None:
            self.store.files.remove(path)
        else:
            self.store.files.replace(path, lambda file: file.write_bytes(new) and None)


def _flipped(content: bytes, where: int) -> bytes:
    position, bit = (where // 8) % len(content), where % 8
    return content[:position] + bytes([content[position] ^ (1 << bit)]) + content[position + 1 :]


def _write(path: Path, text: str) -> None:
    path.write_text(text)
