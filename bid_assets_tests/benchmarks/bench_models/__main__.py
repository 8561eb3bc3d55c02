"""The default model beside LightGBM, XGBoost, CatBoost and TF-IDF logistic regression; writes docs/results/current.md.

    make bench-models

Two real data sets (where they are), a simulated market and one whose regime changes; identical rows for every model. The peers
run in a virtual environment of their own (`--peers`). The page is written anew after each data set, so a run that is stopped
leaves what was measured, and says what was not.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from bid_assets.features.embeddings.encoder import make_encoder
from bid_assets.features.family import Encoder
from bid_assets.modelling.parameters import NotTrainableError
from bid_assets.settings import Settings, get_settings
from bid_assets.version_store.code_version import current_code_version
from bid_assets_tests.benchmarks.bench_models.comparison import CutoffResult, result_at
from bid_assets_tests.benchmarks.bench_models.data_sets import DataSet, data_sets
from bid_assets_tests.benchmarks.bench_models.page import Run, page
from bid_assets_tests.benchmarks.bench_models.peer_process import PeerProcess

NEVER_RUN = (
    "other seeds than one, and other encoders than the one above.",
    "the whole loop after a change of regime, with promotion: `python -m bid_assets_tests.benchmarks.bench_regime`.",
)
"""Sentences on what this benchmark leaves out."""
CHECKOUT = Path(__file__).parents[3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="Python that has LightGBM, XGBoost and CatBoost; unset: our model alone.")
    parser.add_argument(
        "--shared", type=Path, default=CHECKOUT.parent / "shared" / "data", help="Folder of the real data sets."
    )
    parser.add_argument("--page", type=Path, default=CHECKOUT / "docs" / "results" / "current.md")
    arguments = parser.parse_args()
    command = "make bench-models" if arguments.peers else shlex.join(["python", "-m", __package__ or "", *sys.argv[1:]])
    settings = get_settings()
    # not resolved: the Python of a virtual environment is a link, and what it is called says whose libraries it has
    peers = arguments.peers and PeerProcess(arguments.peers.absolute(), settings.home / "benchmarks")
    encoder = make_encoder(settings.encoder, settings.home)
    run_all(data_sets(arguments.shared), settings, encoder, peers, arguments.page, command)


def run_all(
    sets: Mapping[str, Callable[[], DataSet]],
    settings: Settings,
    encoder: Encoder | None,
    peers: PeerProcess | None,
    path: Path,
    command: str,
) -> dict[str, list[CutoffResult]]:
    """Every data set's results, printed as they come and written to `path`; a real data set that is not there is left out."""
    measured: dict[str, list[CutoffResult]] = {}
    descriptions: dict[str, str] = {}
    missing = [] if peers else ["LightGBM, XGBoost, CatBoost and TF-IDF logistic regression: no `--peers` was given."]
    path.parent.mkdir(parents=True, exist_ok=True)
    for number, (name, make) in enumerate(sets.items()):
        try:
            data = make()
        except FileNotFoundError as error:
            missing.append(f"`{name}`: {error.filename or error} is not there.")
            continue
        features, descriptions[name] = data.features(encoder), data.description
        for period in data.periods:
            try:
                result = result_at(data, features, period, settings, peers)
            except NotTrainableError as error:
                missing.append(f"`{name}` at {period.cutoff:%Y-%m-%d}: {error}.")
                continue
            measured.setdefault(name, []).append(result)
            losses = {model: metrics["log_loss"] for model, metrics in result.metrics.items()}
            print(name, f"{result.cutoff:%Y-%m-%d}", "log loss", losses, sep="\t", flush=True)
        to_come = [f"`{other}`: this run has not come to it." for other in list(sets)[number + 1 :]]
        path.write_text(
            page(_run(settings, command, [*missing, *to_come, *NEVER_RUN]), measured, descriptions), encoding="utf-8"
        )
    return measured


def _run(settings: Settings, command: str, not_run: list[str]) -> Run:
    code = current_code_version(None)
    commit = f"{(code.git_commit or 'unknown')[:8]}{' with uncommitted changes' if code.dirty else ''}"
    changed = [f"{name}={getattr(settings, name)}" for name in sorted(settings.model_fields_set - {"home", "encoder"})]
    about = f"settings {', '.join(changed)}, all others default" if changed else "default settings"
    about += f"; encoder `{settings.encoder}`"
    return Run(command, datetime.now(UTC), commit, f"{os.cpu_count()} cores, shared with other work", about, tuple(not_run))


if __name__ == "__main__":
    main()
