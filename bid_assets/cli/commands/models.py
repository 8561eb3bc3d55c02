"""`bid-assets compare`, `report` and `backtest`: how good models are."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from bid_assets.cli.options import DAY, JSON, MOMENT, example, monday


@click.command(epilog=example("bid-assets compare ad17058f 3c01b2aa", "bid-assets compare ad17058f 3c01b2aa --json"))
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@JSON
def compare(first: str, second: str, as_json: bool) -> None:
    """Two models side by side: metrics, dataset, parameters, settings, features; what differs is marked."""
    from bid_assets.cli.compare import show_comparison

    show_comparison(first, second, as_json=as_json)


@click.command(epilog=example("bid-assets report --open", f"bid-assets report --partition {monday(9)} --output card.html"))
@click.argument("version", required=False)
@click.option("--partition", help="The model of this window, instead of the active one.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Copy the page to this file.")
@click.option("--open", "open_it", is_flag=True, help="Open it in the browser.")
def report(version: str | None, partition: str | None, output: Path | None, open_it: bool) -> None:
    """The model card of the active model, or of another VERSION: prints the path of a page that needs nothing else."""
    from bid_assets.cli.report import report as report_command

    report_command(version, partition, output, open_it=open_it)


@click.command(
    epilog=example(
        f"bid-assets backtest --cutoff {monday(16)} --seeds 3 --json",
        f"bid-assets backtest --cutoff {monday(20)} --cutoff {monday(16)} --end {monday(10)} --seeds 1",
        "bid-assets backtest --every window",
        f"bid-assets backtest --every 4 --from {monday(22)} --to {monday(9)} --policy never --policy weekly --policy every:500",
    )
)
@click.option(
    "--cutoff",
    "cutoffs",
    type=MOMENT,
    multiple=True,
    help="A moment (UTC): train on what was known then, evaluate on the bids from then on. Several may be given.",
)
@click.option("--end", type=MOMENT, help="With --cutoff: bids submitted from this moment (UTC) on are left out.")
@click.option("--seeds", default=3, show_default=True, help="With --cutoff: models to train, with different seeds.")
@click.option("--every", help="Walk forward: a cutoff at the end of every `window`, or of every so many windows.")
@click.option("--from", "first", type=DAY, help="With --every: first cutoff (default: with half of a look-back behind it).")
@click.option("--to", "last", type=DAY, help="With --every: end (default: the last bid that is old enough to evaluate on).")
@click.option(
    "--ahead",
    type=click.IntRange(1),
    help="With --every: evaluate each model on so many windows after its cutoff (default: until the next cutoff).",
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    help="With --every: a retraining policy to cost: never, monthly, weekly, daily or every:K outcomes. Several may be given.",
)
@click.option("--workers", type=click.IntRange(1), help="With --every: cutoffs at a time (default: one for each core).")
@JSON
def backtest(
    cutoffs: tuple[datetime, ...],
    end: datetime | None,
    seeds: int,
    every: str | None,
    first: datetime | None,
    last: datetime | None,
    ahead: int | None,
    policies: tuple[str, ...],
    workers: int | None,
    as_json: bool,
) -> None:
    """Evaluate the method on history: train on what was known at a moment, score the bids submitted from then on.

    Several --cutoff give a row each and one of the means. JSON: the metrics of one cutoff, or of several `cutoffs` (a list) and
    their `mean`.

    With --every at one moment after another: what each model said of itself on its holdout, how it did until the next one, and
    what retraining policies would have cost. What is finished is kept: the same command goes on where it was stopped.

    Reads the versions that `bid-assets run` has made. Bids still undecided are left out of both sides.
    """
    if bool(cutoffs) == (every is not None):
        raise click.UsageError("say either --cutoff MOMENT or --every window")
    if cutoffs:
        from bid_assets.cli.backtest import backtest as backtest_command

        backtest_command(cutoffs, seeds=seeds, end=end, as_json=as_json)
        return
    if end is not None:
        raise click.UsageError("--end goes with --cutoff; with --every, --to says where it ends")
    if every != "window" and not (str(every).isdigit() and int(str(every)) > 0):
        raise click.UsageError(f"--every takes `window` or a number of windows, not {every!r}")
    import os

    from bid_assets.cli.walk_forward import DEFAULT_POLICIES, print_result, walk_forward

    step = 1 if every == "window" else int(str(every))
    workers = workers or os.cpu_count() or 1
    print_result(walk_forward(first, last, step, ahead or step, policies or DEFAULT_POLICIES, workers), as_json=as_json)
