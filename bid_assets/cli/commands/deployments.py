"""`bid-assets deployments`, `approve`, `reject` and `rollback`: which models are served, and manual decisions about them."""

from __future__ import annotations

import click

from bid_assets.cli.options import JSON, example

REASON = click.option("--reason", required=True, help="Why; it is kept in the history.")


@click.group(invoke_without_command=True, epilog=example("bid-assets deployments", "bid-assets deployments --json"))
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


@click.command(
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


@click.command(epilog=example('bid-assets reject VERSION --reason "agencies are worse off"'))
@click.argument("version")
@REASON
def reject(version: str, reason: str) -> None:
    """Say no to a model that awaits approval."""
    from bid_assets.cli.deployments import reject as reject_command

    reject_command(version, reason)


@click.command(
    epilog=example('bid-assets rollback --reason "complaints"', 'bid-assets rollback --to VERSION --reason "was best"')
)
@click.option("--to", help="Version of a model that was active once (default: the one before).")
@REASON
def rollback(to: str | None, reason: str) -> None:
    """Go back to the model that was active before. The loop does not bring the other one back; a new, better one it may."""
    from bid_assets.cli.deployments import rollback as rollback_command

    rollback_command(to, reason)
