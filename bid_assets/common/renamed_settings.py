"""Settings that were renamed: their old names are read for one release, from the environment, `.env` files and manifests."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource

RENAMED_SETTINGS: Mapping[str, str] = {
    "threshold_aim": "threshold_objective",
    "refit_after_judging": "refit_on_holdout",
    "noticing_overlap_minutes": "new_row_overlap_minutes",
}
"""Old name -> new name of a setting. An old name is read for one release, with a `FutureWarning` that says the new one."""


def with_current_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values under the current names of the settings; what is given under both names counts under the current one."""
    renamed = {RENAMED_SETTINGS[name]: value for name, value in values.items() if name in RENAMED_SETTINGS}
    return renamed | {name: value for name, value in values.items() if name not in RENAMED_SETTINGS}


def warn_of_old_name(old: str, where: str) -> None:
    """Warn that a setting was read under its old name."""
    new = RENAMED_SETTINGS[old]
    warnings.warn(
        f"the setting BID_ASSETS_{old.upper()} ({where}) is now called BID_ASSETS_{new.upper()}: rename it; the next release "
        f"does not read the old name",
        FutureWarning,
        stacklevel=2,
    )


class EnvironmentSource(EnvSettingsSource):
    """The environment variables; a setting that is not there is read under its old name."""

    place = "in the environment"

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The value of a field, None where there is none; its key; whether it is JSON."""
        value, key, is_json = super().get_field_value(field, field_name)
        for old in (old for old, new in RENAMED_SETTINGS.items() if new == field_name and value is None):
            value = self.env_vars.get(f"{self.env_prefix}{old}".lower())
            if value is not None:
                warn_of_old_name(old, self.place)
        return value, key, is_json


class FileSource(EnvironmentSource, DotEnvSettingsSource):
    """The lines of a `.env` file; a setting that is not there is read under its old name."""

    @property
    def place(self) -> str:  # type: ignore[override]
        """Where the old name stands."""
        return f"in {self.env_file}"
