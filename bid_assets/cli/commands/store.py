"""`bid-assets versions`, `lineage`, `rebuild` and `verify`: the version store."""

from __future__ import annotations

import sys

import click

from bid_assets.cli.options import ANSWER_IS_NO, JSON, example, monday


@click.command(
    epilog=example("bid-assets versions trained_model", f"bid-assets versions raw_bids --partition {monday(9)} --json")
)
@click.argument("asset")
@click.option("--partition", help="Only this window (YYYY-MM-DD).")
@JSON
def versions(asset: str, partition: str | None, as_json: bool) -> None:
    """The versions of an asset, oldest first (JSON: a list of manifests)."""
    from bid_assets.cli.inspect import show_versions

    show_versions(asset, partition, as_json=as_json)


@click.command(
    epilog=example(
        "bid-assets lineage trained_model",
        f"bid-assets lineage raw_bids --partition {monday(9)} --downstream",
        "bid-assets lineage --profile p17",
    )
)
@click.argument("asset", required=False)
@click.option("--partition", help="The window (default: the newest one that has a version).")
@click.option("--version", help="The version (default: the one readers get).")
@click.option("--downstream", is_flag=True, help="What was made from it, instead of what it was made from.")
@click.option("--profile", help="Which datasets and models contain bids of this profile.")
@click.option("--bid", help="Which datasets and models contain this bid.")
@JSON
def lineage(
    asset: str | None,
    partition: str | None,
    version: str | None,
    downstream: bool,
    profile: str | None,
    bid: str | None,
    as_json: bool,
) -> None:
    """What a version was made from, down to raw windows and commit; or, downstream, what was made from it."""
    from bid_assets.cli.inspect import show_containing, show_lineage

    if profile is not None or bid is not None:
        show_containing(profile=profile, bid=bid, as_json=as_json)
    elif asset is None:
        raise click.UsageError("name an asset, or --profile ID, or --bid ID")
    else:
        show_lineage(asset, partition, version, downstream=downstream, as_json=as_json)


@click.command(epilog=example("bid-assets rebuild training_dataset --version ad17058f"))
@click.argument("asset")
@click.option("--version", required=True, help="The version to make again.")
@click.option("--partition", help="The window, where several have a version of this name.")
@JSON
def rebuild(asset: str, version: str, partition: str | None, as_json: bool) -> None:
    """Make a version again from its pinned inputs, and say whether the content is the same. Writes nothing."""
    from bid_assets.cli.rebuild import rebuild as rebuild_command

    if not rebuild_command(asset, version, partition, as_json=as_json):
        sys.exit(ANSWER_IS_NO)


@click.command(epilog=example("bid-assets verify", "bid-assets verify --repair"))
@click.option("--repair", is_flag=True, help="Mend what can be mended, and say what is lost.")
@JSON
def verify(repair: bool, as_json: bool) -> None:
    """Read every file of the store and name what is damaged, missing or left behind.

    With --repair: HEAD is set to the newest intact version, ACTIVE is made from the deployment history, a version whose file is
    missing or changed is made again from its pinned inputs (raw windows are read again), and garbage of killed writers is
    removed. Exit code 3 where damage is left.
    """
    from bid_assets.cli.verify import verify as verify_command

    if not verify_command(repairing=repair, as_json=as_json):
        sys.exit(ANSWER_IS_NO)
