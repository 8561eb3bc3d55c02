"""`bid-assets ...`: the command line. The commands are in `commands/`, one module per group; what they do is in the other
modules.

Exit codes: 0 done; 1 it failed, with one line that says why; 2 wrong usage; 3 done, but the answer is no (a rebuild whose
content differs, a run in which some window failed).
"""

from __future__ import annotations

import click

from bid_assets.cli.commands import application_db, deployments, loop, models, service, store
from bid_assets.cli.options import ANSWER_IS_NO, CommandGroup

__all__ = ["ANSWER_IS_NO", "main"]


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="bid-assets")
def main(debug: bool) -> None:
    """The feedback loop of a bid-success model as one asset graph.

    Settings come from the environment (BID_ASSETS_*) or a .env file; `bid-assets settings` shows them all.
    """


for _command in (
    application_db.import_,
    application_db.marketplace,
    loop.run,
    models.backtest,
    loop.demo,
    store.versions,
    store.lineage,
    store.rebuild,
    store.verify,
    deployments.deployments,
    deployments.approve,
    deployments.reject,
    deployments.rollback,
    models.compare,
    models.report,
    service.keys,
    loop.up,
    service.serve,
    loop.status,
    loop.settings,
):
    main.add_command(_command)
