"""Every setting, once: its name, default and meaning. Read from the environment (`BID_ASSETS_*`) or a `.env` file.

docs/reference/settings.md is generated from this module (`python -m bid_assets_tests.reference_pages`).
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

from platformdirs import user_cache_path
from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from bid_assets.common.renamed_settings import (
    RENAMED_SETTINGS,
    EnvironmentSource,
    FileSource,
    warn_of_old_name,
    with_current_names,
)
from bid_assets.common.windows import MONDAY, Cadence

DEFAULT_HOME = Path(".bid_assets")
HOME_SETTINGS = "settings.env"
"""Name of the file in the home folder whose lines (`BID_ASSETS_<NAME>=value`) hold where environment and `.env` say nothing."""


class Settings(BaseSettings):
    """The platform's settings. Every field is an environment variable `BID_ASSETS_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="BID_ASSETS_", env_file=".env", extra="ignore", frozen=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, the environment, `.env`, and last what the home itself remembers."""
        arguments = init_settings()
        for old in RENAMED_SETTINGS.keys() & arguments.keys():
            warn_of_old_name(old, "an argument")
        stronger = (
            InitSettingsSource(settings_cls, init_kwargs=with_current_names(arguments)),
            EnvironmentSource(settings_cls),
            FileSource(settings_cls),
        )
        home = next((source()["home"] for source in stronger if "home" in source()), DEFAULT_HOME)
        home_file = Path(home).expanduser() / HOME_SETTINGS
        return (*stronger, FileSource(settings_cls, env_file=home_file))

    home: Path = Field(DEFAULT_HOME, validate_default=True, description="Folder that holds all local state.")
    app_db_url: str | None = Field(
        None, description="The application's PostgreSQL (`postgresql://...`); unset: the embedded server."
    )
    app_db_schema: str | None = Field(
        None, description="Schema of the application's tables; unset: the search path of the URL's options or of the role."
    )
    dagster_db_url: str | None = Field(None, description="PostgreSQL for Dagster's own storage; unset: the embedded server.")
    prediction_db_url: str | None = Field(
        None, description="PostgreSQL that remembers predictions; unset: Dagster's if its URL is set, else the embedded server."
    )
    store_url: str | None = Field(
        None,
        description="The version store: a folder or any fsspec URL such as `s3://bucket/prefix`; unset: `<home>/store`.",
    )
    postgres_data: Path | None = Field(None, description="Data folder of the embedded PostgreSQL; unset: `<home>/postgres`.")

    db_silence_seconds: float = Field(
        300,
        gt=0,
        description="A database that is being read or written and says nothing for so long is given up; so it is the longest "
        "that a query may take to its first row.",
    )

    cadence: Cadence = Field(Cadence.WEEKLY, description="Length of a window: `weekly` (from Monday 00:00 UTC) or `daily`.")
    start: date | None = Field(
        None,
        description="First day of the first window, a Monday where the cadence is weekly; older rows are left out. Unset: "
        "learnt from the oldest valid bid.",
    )
    lookback_windows: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        description="Windows that a dataset looks back over, its own included. `auto`: at least 26, and more until 20,000 "
        "bids with an outcome and 500 of the rarer class are among them, else all there are. Of more than 99 the newest 99 "
        "are what Dagster's UI shows of a dataset's inputs and goes by in calling it outdated.",
    )

    encoder: str = Field(
        "all-MiniLM-L6-v2",
        description="Sentence-transformers model name or path, or `static`: a static model distilled once from the default.",
    )
    encoder_cache: Path | None = Field(
        None,
        description="Folder of the distilled encoder, which all homes of a user share; unset: `bid-assets/encoders` in the "
        "user's cache folder (`~/.cache`, or XDG_CACHE_HOME).",
    )
    embeddings_in_model: bool = Field(
        False,
        description="The model reads the embeddings of bid and job too. They are in every dataset; `backtest` tells whether "
        "they help.",
    )
    vocabulary_size: int = Field(
        32,
        ge=0,
        description="Most frequent values that a model learns of a list or category column, and names of numeric external "
        "signals.",
    )

    holdout_share: float = Field(
        0.2, gt=0, lt=0.9, description="Share of a dataset's mature bids, the newest, kept for evaluation."
    )
    calibration: Literal["none", "sigmoid", "isotonic"] = Field(
        "none",
        description="A correction of the model's probabilities, fitted to forward blocks of the training bids and taken only "
        "where it wins on later ones.",
    )
    label_maturity_days: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        "auto",
        description="Bids younger than this are in no holdout: their failures are not known yet. `auto`: estimated from "
        "how long outcomes have taken, at most a quarter of the time that the bids span.",
    )
    train_on_mature_only: bool = Field(False, description="Leave bids younger than that out of the training as well.")
    undecided_as_failure_days: float | None = Field(
        None, gt=0, description="A bid undecided for so long counts as a failure; unset: it stays undecided and is left out."
    )
    validation_share: float = Field(
        0.45,
        gt=0,
        lt=0.9,
        description="Share of the training bids, the newest, in three forward blocks that choose rounds, weights and "
        "threshold.",
    )
    min_labelled_bids: int = Field(200, ge=2, description="Fewer labelled bids than this: no model is trained, and it says so.")
    min_per_class: int = Field(
        10,
        ge=1,
        description="Fewer bids of either class in training or holdout: no model is trained. Fewer in a forward block: it is "
        "joined to the one before it.",
    )

    excluded_features: str = Field(
        "month,job_words",
        description="Columns of the dataset that no model learns from, with commas between; `profile_rating` for the ratings "
        "of profiles.",
    )
    threshold_objective: Literal["f1", "precision", "value"] = Field(
        "f1",
        description="What the threshold maximizes: `f1` of the rarer class, recall at a minimum `precision`, or expected "
        "`value`.",
    )
    min_precision: float = Field(
        0.5, ge=0, le=1, description="Minimum precision of the bids called successes (objective `precision`)."
    )
    cost_per_bid: float = Field(1, ge=0, description="What a bid costs (objective `value`).")
    gain_per_success: float = Field(10, ge=0, description="What a success brings, in the same currency (objective `value`).")

    hyperparameters: str | None = Field(
        None, description="Version of a `hyperparameter_search` whose best setting every training uses; unset: the defaults."
    )
    refit_on_holdout: bool = Field(
        False, description="Serve a model refit on training and holdout; the report is about the model before the refit."
    )

    min_roc_auc: float = Field(0.55, description="A model below this ROC AUC on its holdout is not activated.")
    max_calibration_error: float = Field(0.15, description="A model above this expected calibration error is not activated.")
    min_log_loss_gain: float = Field(
        0.0, description="A model is not activated unless its log loss is this much below the base rate's."
    )
    required_improvement: float = Field(
        0.0,
        ge=0,
        description="Log loss by which a model of the active model's own dataset, or of an older one, must be better.",
    )
    required_confidence: float = Field(
        0.95, ge=0, le=1, description="Share of resamples of the profiles in which such a model must be better."
    )
    fresher_tolerance: float = Field(
        0.003, ge=0, description="Log loss by which a model that learned from newer outcomes may be worse than the active one."
    )
    max_roc_auc_loss: float = Field(0.01, ge=0, description="ROC AUC by which a model may be worse than the active one.")
    max_slice_harm: float = Field(
        0.05, ge=0, description="Log loss by which a model may be worse than the active one on any slice, significantly."
    )
    approval: Literal["automatic", "manual"] = Field(
        "automatic", description="`manual`: a model that has passed waits until a person approves it."
    )

    max_rejected_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="More rejected rows than this share of the look-back, or of its last window, block a dataset.",
    )
    max_label_odds_ratio: float = Field(
        3,
        gt=1,
        description="Odds of success so many times those of the datasets before, or as many times less, block a dataset.",
    )

    sensor_interval_seconds: int = Field(15, ge=5, description="How often new rows are looked for and the policy is asked.")
    new_row_overlap_minutes: int = Field(
        60,
        ge=1,
        description="Rows committed this much later than their own time are found by polling; later ones by comparison of all "
        "windows.",
    )
    reconciliation_interval_minutes: float = Field(
        60, gt=0, description="How often every window is compared with the store, for what was edited, deleted or back-dated."
    )
    retrain_min_new_outcomes: int = Field(50, ge=1, description="So many new outcomes make a retraining due.")
    retrain_min_interval_minutes: float = Field(
        60, ge=0, description="No retraining sooner than this after the last one ended."
    )
    retrain_max_age_days: float = Field(
        7, gt=0, description="A dataset of this age makes a retraining due, if any outcome is new."
    )
    retry_blocked_retraining: bool = Field(
        False,
        description="Try again even if a data-quality check stopped the last attempt; otherwise new outcomes are awaited.",
    )
    retry_pause_seconds: int = Field(
        60, ge=1, description="Pause after a failed run of the loop; it doubles with each failure."
    )
    max_attempts: int = Field(
        5, ge=1, description="After so many failures in a row the loop says so, and tries again once an hour."
    )

    prediction_log_max_rows: int = Field(
        100_000, ge=1, description="Predictions of one process that wait for the database; what comes beyond is not remembered."
    )
    prediction_retention_days: int = Field(
        400, ge=15, le=36_500, description="Whole days of predictions that are older than this leave the database."
    )
    ui_hosts: str = Field(
        "",
        description="Names under which a proxy with a login of its own passes requests on to Dagster's UI, with commas "
        "between. Without them the UI listens on loopback only, and under no other name.",
    )
    api_keys: Path | None = Field(
        None, description="File of the prediction service's API keys (hashes only); unset: `<home>/api_keys.json`."
    )
    serving_rate_limit: float | None = Field(
        None, gt=0, description="Requests that a key may make in a second, of each worker process; unset: any number."
    )
    serving_max_body_bytes: int = Field(32 << 20, ge=1, description="Larger bodies of requests are refused.")
    serving_lookup_seconds: float = Field(
        3,
        gt=0,
        description="A look-up in the application's database may take so long; one that nobody answered is tried once more, "
        "over a new connection, before the request is answered with 503.",
    )
    serving_timeout_seconds: float = Field(10, gt=0, description="A request that takes longer is answered with 503.")

    read_chunk_rows: int = Field(250_000, ge=1, description="Rows that the reader holds in memory at a time.")

    _oldest_window: datetime | None = PrivateAttr(None)

    @field_validator("home", "postgres_data", "api_keys", "encoder_cache")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser().absolute()

    @model_validator(mode="after")
    def _starts_with_a_window(self) -> Self:
        if self.first_moment < MONDAY:
            raise ValueError(f"start: {self.start} is before {MONDAY:%Y-%m-%d}, the first day that a window can hold")
        if self.cadence.floor(self.first_moment) != self.first_moment:
            raise ValueError(f"start: no {self.cadence.value} window starts on {self.start} (weeks start on Monday)")
        return self

    def with_oldest_window(self, oldest: datetime) -> Self:
        """A copy that knows the start of the oldest window with data (`first_window.py` knows when that is).

        Where the settings know one already it only moves forward: for definitions made of them there is none before it.
        """
        copy = self.model_copy()
        copy._oldest_window = max(oldest, self._oldest_window or oldest)
        return copy

    @property
    def first_moment(self) -> datetime:
        """The start of the first window: as set, else as learnt; while nothing is known the first that a window can hold."""
        if self.start is not None:
            return datetime(self.start.year, self.start.month, self.start.day, tzinfo=UTC)
        return self._oldest_window or MONDAY

    @property
    def oldest_window(self) -> datetime:
        """The start of the oldest window that holds data, as far as is known; never before the first one."""
        return max(self.first_moment, self._oldest_window or self.first_moment)

    @property
    def resolved_store_url(self) -> str:
        """The version store's URL, with the default filled in."""
        return self.store_url or str(self.home / "store")

    @property
    def resolved_encoder_cache(self) -> Path:
        """The folder of the distilled encoder, with the default filled in."""
        return self.encoder_cache or user_cache_path("bid-assets") / "encoders"

    @property
    def ui_host_names(self) -> list[str]:
        """The names of `ui_hosts`."""
        return [name.strip() for name in self.ui_hosts.split(",") if name.strip()]

    @property
    def resolved_api_keys(self) -> Path:
        """The file of API keys, with the default filled in."""
        return self.api_keys or self.home / "api_keys.json"


def keep_in_home(home: Path, name: str, value: str) -> None:
    """Let the home remember a setting for all later commands; the environment and `.env` are stronger."""
    home.mkdir(parents=True, exist_ok=True)
    file, variable = home / HOME_SETTINGS, f"BID_ASSETS_{name.upper()}"
    lines = file.read_text().splitlines() if file.exists() else []
    kept = [line for line in lines if not line.startswith(f"{variable}=")]
    partial = file.with_suffix(".partial")
    partial.write_text("\n".join([*kept, f"{variable}={value}"]) + "\n")
    partial.replace(file)


def sources_of_values() -> dict[str, str]:
    """Setting -> where its value comes from: `environment`, `.env` or the file of the home. Defaults are absent."""
    files = ((HOME_SETTINGS, Settings().home / HOME_SETTINGS), (".env", Path(".env")))
    named: dict[str, str] = {}
    for name, path in files:
        named |= dict.fromkeys(FileSource(Settings, env_file=path)(), name)
    return named | dict.fromkeys(EnvironmentSource(Settings)(), "environment")


class SettingsError(ValueError):
    """Settings that cannot be used; the message names each variable and what is wrong with it."""


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once. Raises `SettingsError`."""
    try:
        return Settings()
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_url=False):
            name = f"BID_ASSETS_{problem['loc'][0]}".upper() if problem["loc"] else ""
            value = "" if name.endswith("_URL") else f"={problem['input']}"  # which may hold a password
            assignment = f"{name}{value}: " if name else ""
            problems.append(assignment + problem["msg"].removeprefix("Value error, "))
        raise SettingsError("settings: " + "; ".join(problems)) from None
