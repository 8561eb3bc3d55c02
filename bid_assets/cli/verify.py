"""`bid-assets verify`: look for damage in the store, and with --repair mend it: versions are made again by their assets."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from bid_assets.cli.output import console, print_json, progress_bars
from bid_assets.features.registry import families
from bid_assets.orchestration.assets.raw_tables import RAW_ASSETS
from bid_assets.orchestration.rebuild import rerun_asset
from bid_assets.settings import Settings, get_settings
from bid_assets.verification.damage import Finding, check, harmful, url_of
from bid_assets.verification.repair import Outcome, Repair, repair
from bid_assets.verification.restoring import RestoringStore
from bid_assets.version_store.store import VersionStore
from bid_assets.version_store.store_metadata import open_store


def verify(*, repairing: bool, as_json: bool) -> bool:
    """Print every damaged file of the store and what to do, or what was done; True where no damage is left."""
    settings = get_settings()
    store = open_store(settings)
    if repairing:
        with progress_bars():
            repairs = repair(store, settings.cadence, lambda finding: restore_version(settings, finding))
    else:
        repairs = [Repair(finding, remedy(finding), finding.harmless) for finding in check(store)]
    if as_json:
        print_json([_row(store, each) for each in repairs])
    else:
        _print_repairs(store, repairs, repairing=repairing)
    return all(each.mended for each in repairs)


def remedy(finding: Finding) -> str:
    """What a person does about a finding."""
    return "nothing" if finding.harmless else "`bid-assets verify --repair`"


def restore_version(settings: Settings, finding: Finding) -> Outcome:
    """Make the version of a finding again; it is restored where the content is the same.

    Other content becomes a new version only where readers have no other: raw windows, which are read again, and features whose
    manifest is lost. What was decided (datasets, models, reports, decisions) is never made anew here.
    """
    assert finding.version is not None
    asset = finding.version[0]
    features = {family.name for family in families()} if finding.manifest is None else set()
    store = RestoringStore(
        settings.resolved_store_url, finding, replaceable=finding.readers and asset in {*RAW_ASSETS, *features}
    )
    try:
        failures = rerun_asset(settings, store)
    except Exception as error:  # whatever an asset may raise: the other findings are repaired all the same
        return Outcome(f"lost: it cannot be made again: {error}", False)
    if store.restored is None:
        reason = "; ".join(failures) if failures else "what it is made from has changed: the content is another one now"
        return Outcome(f"lost: {reason}", False)
    version = store.restored.manifest.version
    if version == finding.version[2]:
        return Outcome("made again with the same content", True)
    return Outcome(f"a new version is in its place: {version}", finding.content_hash is None)


def _print_repairs(store: VersionStore, repairs: list[Repair], *, repairing: bool) -> None:
    damaged = harmful(each.finding for each in repairs)
    if repairs:
        table = Table("file", "what", "problem", "done" if repairing else "remedy", show_lines=True)
        for each in repairs:
            action = escape(each.action) if each.mended else f"[red]{escape(each.action)}[/red]"
            table.add_row(escape(url_of(store, each.finding)), each.finding.kind.value, escape(each.finding.problem), action)
        console.print(table)
    if not damaged:
        console.print(f"[green]No damage[/green] in the store {store.url}")
    elif not repairing:
        console.print(f"{len(damaged)} damaged file(s); mend them with `bid-assets verify --repair`")
    else:
        left = sum(not each.mended for each in repairs)
        console.print(f"{len(repairs) - left} mended" + (f", [red]{left} not[/red]" if left else ""))


def _row(store: VersionStore, each: Repair) -> dict[str, Any]:
    finding = each.finding
    return {
        "file": url_of(store, finding),
        "kind": finding.kind.value,
        "problem": finding.problem,
        "action": each.action,
        "mended": each.mended,
    }
