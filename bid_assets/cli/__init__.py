"""`bid-assets ...`: the command line's words, options and help. What a command does is in `commands/`, imported when asked.

Exit codes: 0 done; 1 it failed, with one line that says why; 2 wrong usage; 3 done, but the answer is no (a rebuild whose
content differs, a run in which some window failed).
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import click

ANSWER_IS_NO = 3


class Group(click.Group):
    """A group whose commands fail in one readable line; with `--debug` in a traceback."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As a program: all that it writes is its owner's alone."""
        from bid_assets.common.private_state import keep_private

        keep_private()
        return super().__call__(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn an unexpected error into a line on stderr and exit code 1."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, click.ClickException, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            message = str(getattr(error, "description", None) or error).strip() or type(error).__name__
            fail(f"{message}  (--debug shows where)")


def fail(message: str) -> NoReturn:
    """Say `message` on stderr and exit with 1."""
    click.echo(click.style("error: ", fg="red") + message, err=True)
    sys.exit(1)


def example(*lines: str) -> str:
    """An epilog of commands, kept as written."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def monday(weeks_ago: int) -> str:
    """The day on which the window of so many weeks ago begins: examples name days that the demo's market has, whenever they are read."""
    today = datetime.now(UTC)
    return f"{today - timedelta(days=today.weekday(), weeks=weeks_ago):%Y-%m-%d}"


DAY = click.DateTime(["%Y-%m-%d"])
MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"])
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="bid-assets")
def main(debug: bool) -> None:
    """The feedback loop of a bid-success model as one asset graph.

    Settings come from the environment (BID_ASSETS_*) or a .env file; `bid-assets settings` shows them all.
    """


@main.command("import", epilog=example("bid-assets import exports/2026-11"))
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
@click.option("--mix", is_flag=True, help="Import into a home that has a simulated market, beside its bids.")
def import_(directory: str, mix: bool) -> None:
    """Import profiles, jobs, bids and bid_outcomes files (CSV, Parquet) into the application's database.

    All or nothing: a bad file is refused with file, line and reason before anything is written. Running it twice changes nothing.
    """
    from bid_assets.cli.database import import_directory

    import_directory(directory, mix=mix)


@main.group()
def marketplace() -> None:
    """A simulated freelance market with a known truth, for demos and tests."""


@marketplace.command("create", epilog=example("bid-assets marketplace create --weeks 26 --bids 20000 --seed 7"))
@click.option("--weeks", default=26, show_default=True, help="Weeks of history.")
@click.option("--bids", default=20_000, show_default=True, help="So many bids.")
@click.option("--seed", default=7, show_default=True, help="Equal seeds give equal markets.")
@click.option("--end", type=DAY, help="The market's last day (default: the start of the current week).")
@click.option("--change-week", type=int, help="From this week on (0 is the first) clients care about other things.")
@click.option("--replace", is_flag=True, help="Replace what the application's tables hold.")
def marketplace_create(weeks: int, bids: int, seed: int, end: datetime | None, change_week: int | None, replace: bool) -> None:
    """Simulate a market and write it into the application's database."""
    from bid_assets.cli.database import create_marketplace

    create_marketplace(weeks=weeks, bids=bids, seed=seed, end=end, overwrite=replace, change_week=change_week)


@marketplace.command("play", epilog=example("bid-assets marketplace play --speed 7"))
@click.option("--speed", default=7.0, show_default=True, help="Days of the market in a minute.")
@click.option("--until", type=DAY, help="Stop at the start of this day, UTC (default: go on until Ctrl-C).")
def marketplace_play(speed: float, until: datetime | None) -> None:
    """The simulated market goes on living: new jobs, bids and profiles, and outcomes as they become known.

    It goes on from where it stands, never passes the present, and in the present lives in real time. Ctrl-C stops it; so may
    anything else, nothing is lost or doubled.
    """
    from bid_assets.cli.database import play_marketplace

    play_marketplace(speed, until)


@main.command(epilog=example("bid-assets run", f"bid-assets run --from {monday(30)} --to {monday(9)} --cutoff-windows 4"))
@click.option("--from", "first", type=DAY, help="First day (default: the first window with data).")
@click.option("--to", "last", type=DAY, help="Last day (default: the last window with data).")
@click.option(
    "--cutoff-windows",
    default="last",
    show_default=True,
    help="For which windows to make a dataset, model, report and decision: last, all, or the newest N.",
)
@click.option(
    "--accept",
    multiple=True,
    metavar="CHECK",
    help="A data-quality check that may fail this once, since you have looked into it (schema_as_before, say). Several may be given.",
)
@JSON
def run(first: datetime | None, last: datetime | None, cutoff_windows: str, accept: tuple[str, ...], as_json: bool) -> None:
    """The main job: read the windows, compute features, assemble, train, judge, decide.

    Everything goes through Dagster's instance and shows in its UI. Safe to run again: what did not change makes no new version.
    """
    from bid_assets.cli.run import run as run_command

    if not run_command(first, last, cutoff_windows, as_json=as_json, accept=accept):
        sys.exit(ANSWER_IS_NO)


@main.command(
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
    help="A moment (UTC): train on what was known then, judge on the bids from then on. Several may be given.",
)
@click.option("--end", type=MOMENT, help="With --cutoff: bids submitted from this moment (UTC) on do not judge.")
@click.option("--seeds", default=3, show_default=True, help="With --cutoff: models to train, with different seeds.")
@click.option("--every", help="Walk forward: a cutoff at the end of every `window`, or of every so many windows.")
@click.option("--from", "first", type=DAY, help="With --every: first cutoff (default: with half of a look-back behind it).")
@click.option("--to", "last", type=DAY, help="With --every: end (default: the last bid that is old enough to judge).")
@click.option(
    "--ahead",
    type=click.IntRange(1),
    help="With --every: judge each model on so many windows after its cutoff (default: until the next cutoff).",
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
    """Judge the method on history: train on what was known at a moment, score the bids submitted from then on.

    Several --cutoff give a row each and one of the means. JSON: the figures of one cutoff, or of several `cutoffs` (a list) and
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

    from bid_assets.cli.walk_forward import DEFAULT_POLICIES, say, walk_forward

    step = 1 if every == "window" else int(str(every))
    workers = workers or os.cpu_count() or 1
    say(walk_forward(first, last, step, ahead or step, policies or DEFAULT_POLICIES, workers), as_json=as_json)


@main.command(epilog=example("bid-assets demo"))
@click.option("--bids", default=20_000, show_default=True, help="Size of the simulated market.")
@click.option("--weeks", default=26, show_default=True, help="Weeks of history.")
def demo(bids: int, weeks: int) -> None:
    """From nothing to an active model: a simulated market, the whole loop, and what came of it."""
    from bid_assets.cli.demo import demo as demo_command

    demo_command(bids=bids, weeks=weeks)


@main.command(
    epilog=example("bid-assets versions trained_model", f"bid-assets versions raw_bids --partition {monday(9)} --json")
)
@click.argument("asset")
@click.option("--partition", help="Only this window (YYYY-MM-DD).")
@JSON
def versions(asset: str, partition: str | None, as_json: bool) -> None:
    """The versions of an asset, oldest first (JSON: a list of manifests)."""
    from bid_assets.cli.inspect import show_versions

    show_versions(asset, partition, as_json=as_json)


@main.command(
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


@main.command(epilog=example("bid-assets rebuild training_dataset --version ad17058f"))
@click.argument("asset")
@click.option("--version", required=True, help="The version to make again.")
@click.option("--partition", help="The window, where several have a version of this name.")
@JSON
def rebuild(asset: str, version: str, partition: str | None, as_json: bool) -> None:
    """Make a version again from its pinned inputs, and say whether the content is the same. Writes nothing."""
    from bid_assets.cli.rebuild import rebuild as rebuild_command

    if not rebuild_command(asset, version, partition, as_json=as_json):
        sys.exit(ANSWER_IS_NO)


@main.command(epilog=example("bid-assets verify", "bid-assets verify --repair"))
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


REASON = click.option("--reason", required=True, help="Why; it is kept in the history.")


@main.group(invoke_without_command=True, epilog=example("bid-assets deployments", "bid-assets deployments --json"))
@JSON
@click.pass_context
def deployments(ctx: click.Context, as_json: bool) -> None:
    """Which models were and are served: the history, who decided, when and why."""
    from bid_assets.cli.deployments import show_deployments

    if ctx.invoked_subcommand is None:
        show_deployments(as_json=as_json)


@deployments.command("canary", epilog=example('bid-assets deployments canary VERSION --share 0.1 --reason "first week"'))
@click.argument("version")
@click.option("--share", type=float, required=True, help="Share of the profiles, between 0 and 1; the same ones every time.")
@REASON
def deployments_canary(version: str, share: float, reason: str) -> None:
    """Let a model answer for a share of the profiles, beside the active one."""
    from bid_assets.cli.deployments import canary

    canary(version, share, reason)


@deployments.command("shadow", epilog=example('bid-assets deployments shadow VERSION --reason "let us see"'))
@click.argument("version")
@REASON
def deployments_shadow(version: str, reason: str) -> None:
    """Let a model score every bid and answer none."""
    from bid_assets.cli.deployments import shadow

    shadow(version, reason)


@deployments.command("end", epilog=example('bid-assets deployments end VERSION --reason "seen enough"'))
@click.argument("version")
@REASON
def deployments_end(version: str, reason: str) -> None:
    """End a canary or shadow."""
    from bid_assets.cli.deployments import end

    end(version, reason)


@main.command(
    epilog=example(
        'bid-assets approve ad17058f --reason "looked at the report"',
        'bid-assets approve ad17058f --override --reason "the slice that failed is no market of ours any more"',
    )
)
@click.argument("version")
@click.option("--override", is_flag=True, help="Activate it though it was rejected; the history says so, and who did it.")
@REASON
def approve(version: str, override: bool, reason: str) -> None:
    """Make a model that awaits approval the active one (setting `approval`: manual), or one that was rejected (--override).

    VERSION here and in every command: a version, or its short id as `bid-assets versions trained_model` shows it.
    """
    from bid_assets.cli.deployments import approve as approve_command

    approve_command(version, reason, override=override)


@main.command(epilog=example('bid-assets reject VERSION --reason "agencies are worse off"'))
@click.argument("version")
@REASON
def reject(version: str, reason: str) -> None:
    """Say no to a model that awaits approval."""
    from bid_assets.cli.deployments import reject as reject_command

    reject_command(version, reason)


@main.command(
    epilog=example('bid-assets rollback --reason "complaints"', 'bid-assets rollback --to VERSION --reason "was best"')
)
@click.option("--to", help="Version of a model that was active once (default: the one before).")
@REASON
def rollback(to: str | None, reason: str) -> None:
    """Go back to the model that was active before. The loop does not bring the other one back; a new, better one it may."""
    from bid_assets.cli.deployments import rollback as rollback_command

    rollback_command(to, reason)


@main.command(epilog=example("bid-assets compare ad17058f 3c01b2aa", "bid-assets compare ad17058f 3c01b2aa --json"))
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@JSON
def compare(first: str, second: str, as_json: bool) -> None:
    """Two models side by side: figures, dataset, parameters, settings, features; what differs is marked."""
    from bid_assets.cli.compare import show_comparison

    show_comparison(first, second, as_json=as_json)


@main.command(epilog=example("bid-assets report --open", f"bid-assets report --partition {monday(9)} --output card.html"))
@click.argument("version", required=False)
@click.option("--partition", help="The model of this window, instead of the active one.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Copy the page to this file.")
@click.option("--open", "open_it", is_flag=True, help="Open it in the browser.")
def report(version: str | None, partition: str | None, output: Path | None, open_it: bool) -> None:
    """The model card of the active model, or of another VERSION: prints the path of a page that needs nothing else."""
    from bid_assets.cli.report import report as report_command

    report_command(version, partition, output, open_it=open_it)


@main.group()
def keys() -> None:
    """API keys of the prediction service. With the first one, every request needs one."""


@keys.command("create", epilog=example("bid-assets keys create autobidder --scope predict"))
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=("predict",),
    show_default=True,
    type=click.Choice(["predict", "admin"]),
    help="What it may do; `admin` includes `predict`. Several may be given.",
)
def keys_create(name: str, scopes: tuple[str, ...]) -> None:
    """Make a key and print it, this once."""
    from bid_assets.cli.keys import create

    create(name, scopes)


@keys.command("list", epilog=example("bid-assets keys list --json"))
@JSON
def keys_list(as_json: bool) -> None:
    """Who has a key, and for what."""
    from bid_assets.cli.keys import list_keys

    list_keys(as_json=as_json)


@keys.command("revoke", epilog=example("bid-assets keys revoke autobidder"))
@click.argument("name")
def keys_revoke(name: str) -> None:
    """Refuse a key (by name or id) from now on; services that run do so within a second."""
    from bid_assets.cli.keys import revoke

    revoke(name)


@main.command(epilog=example("bid-assets up --port 3000 --service-port 8000", "bid-assets up --service-host 0.0.0.0"))
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address that Dagster's UI listens on; any other than loopback needs a proxy with a login in front.",
)
@click.option("--port", default=3000, show_default=True, help="Port of the UI.")
@click.option(
    "--service-host",
    default="127.0.0.1",
    show_default=True,
    help="Address that the prediction service listens on; any other than loopback needs API keys.",
)
@click.option("--service-port", default=8000, show_default=True, help="Port of the prediction service.")
def up(host: str, port: int, service_host: str, service_port: int) -> None:
    """Dagster's web server and daemon, the prediction service, and the databases that they need. Ctrl-C stops everything."""
    from bid_assets.cli.up import up as up_command

    sys.exit(up_command(host, port, service_host, service_port))


@main.command(epilog=example("bid-assets serve --port 8000", "bid-assets serve --host 0.0.0.0 --workers 2"))
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; any other than loopback needs API keys."
)
@click.option("--port", default=8000, show_default=True, help="Port to listen on.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes that answer.")
def serve(host: str, port: int, workers: int) -> None:
    """The prediction service alone: the probability that a bid will succeed, from the active model, over HTTP.

    It follows the deployment history: what `up`, `approve` or `rollback` makes active answers within two seconds. /docs describes
    the endpoints.
    """
    from bid_assets.cli.serve import serve as serve_command

    serve_command(host, port, workers)


@main.command(epilog=example("bid-assets status --json"))
@JSON
def status(as_json: bool) -> None:
    """What is active, which outcomes wait, what ran last, and what the retraining policy says now."""
    from bid_assets.cli.status import status as status_command

    status_command(as_json=as_json)


@main.command(epilog=example("bid-assets settings"))
@click.option("--markdown", is_flag=True, help="As the table in docs/reference/settings.md.")
def settings(markdown: bool) -> None:
    """Every setting, with its default, its value here, and its meaning."""
    from bid_assets.cli.settings import show_settings

    show_settings(markdown=markdown)


if __name__ == "__main__":
    main()
