"""Mends what `damage.py` finds: from what else the store holds, and by making versions again.

Making a version again is handed in (`Remake`), since it needs the assets. Everything else is here: HEADs come from manifests,
events from their copies, the pointer ACTIVE from the history. A repair that is interrupted is finished by the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from bid_assets.common.windows import Cadence
from bid_assets.deployments import events, retraining_requests
from bid_assets.verification.damage import Finding, Kind, check
from bid_assets.version_store import store_metadata
from bid_assets.version_store.layout import HEAD
from bid_assets.version_store.store import VersionStore


class Outcome(NamedTuple):
    """What was done, in words, and whether what was damaged reads as before."""

    action: str
    mended: bool


Remake = Callable[[Finding], Outcome]
"""Makes the version of a finding again and restores it if the content is the same. Raises nothing for one that it
cannot make."""


@dataclass(frozen=True)
class Repair:
    """What was done about a finding."""

    finding: Finding
    action: str
    mended: bool


def repair(store: VersionStore, cadence: Cadence, remake: Remake) -> list[Repair]:
    """Mend all that can be mended. What cannot is as it was, but that HEADs lead to versions that are intact."""
    findings = [finding for finding in check(store) if finding.kind is not Kind.STRAY]
    repairs = [Repair(finding, *_mend(store, cadence, remake, finding)) for finding in findings]
    moved = _lead_heads_to_intact_versions(store)
    swept = [Repair(Finding(Kind.GARBAGE, path, "half a file"), "removed", True) for path in store.files.sweep()]
    return [*repairs, *moved, *swept]


def _mend(store: VersionStore, cadence: Cadence, remake: Remake, finding: Finding) -> Outcome:
    if finding.kind is Kind.EVENT:
        return _restore_event(store, finding)
    if finding.kind is Kind.FILE:
        return remake(finding)
    if finding.kind is Kind.MANIFEST:
        return _make_lost_version_again(store, remake, finding)
    if finding.kind is Kind.HEAD:
        asset, partition, _ = finding.path.split("/")
        return _move_head(store, asset, partition)
    if finding.kind is Kind.POINTER:
        return _reset_pointer(store, cadence, finding.path)
    store.files.remove(finding.path)
    return Outcome("removed", True)


def _make_lost_version_again(store: VersionStore, remake: Remake, finding: Finding) -> Outcome:
    outcome = remake(finding)
    if outcome.mended and finding.content_hash is None:  # a new version is in its place, and no other names this one
        store.files.remove(finding.path)
    return outcome


def _restore_event(store: VersionStore, finding: Finding) -> Outcome:
    number, history = events.event_number(finding.path), events.read_log(store).events
    if number not in history:
        return Outcome("lost: neither the next event nor ACTIVE has a copy", False)
    previous = history.get(number - 1)
    entry: dict[str, Any] = {**asdict(history[number]), "previous": None if previous is None else asdict(previous)}
    store.restore_entry(events.LOG, number, entry)
    return Outcome("restored from the copy", True)


def _move_head(store: VersionStore, asset: str, partition: str) -> Outcome:
    """The rule: the newest version by `created_at` whose file is intact; where there is none, the window has no version."""
    content = store.files.read(f"{asset}/{partition}/{HEAD}")[0]
    newest = store.newest_intact(asset, partition)
    named = [item for item in store.versions(asset, partition) if item.version.encode() == content]
    if named and not store.damaged(named, checksums=True):
        return Outcome("it names a version that was made again", True)
    if newest is None:
        store.remove_head(asset, partition)
        return Outcome(
            f"removed, as no version is intact: `bid-assets run --from {partition} --to {partition}` makes one", False
        )
    store.set_head(asset, partition, newest.version)
    return Outcome(f"set to the newest intact version, {newest.version}", True)


def _lead_heads_to_intact_versions(store: VersionStore) -> list[Repair]:
    """HEADs that still name a damaged version are moved: its data could not be made again."""
    damaged = [finding for finding in check(store) if finding.kind is Kind.FILE and finding.readers]
    repairs = []
    for finding in damaged:
        assert finding.version is not None
        asset, partition, version = finding.version
        head = Finding(Kind.HEAD, f"{asset}/{partition}/{HEAD}", f"it names {version}, whose file is damaged")
        repairs.append(Repair(head, *_move_head(store, asset, partition)))
    return repairs


def _reset_pointer(store: VersionStore, cadence: Cadence, name: str) -> Outcome:
    if name == events.POINTER:
        events.write_pointer(store, events.read_history(store))
        return Outcome("made again from the deployment history", True)
    store.files.remove(name)
    if name == retraining_requests.POINTER:
        return Outcome("removed: the requests for a retraining in it are lost", False)
    store_metadata.remember_cadence(store, cadence)
    return Outcome("made again from the windows", True)
