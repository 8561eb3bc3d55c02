import warnings
from pathlib import Path

import pytest
from pydantic import ValidationError

from bid_assets.cli.database import TRUTH_FOLDER
from bid_assets.common.renamed_settings import RENAMED_SETTINGS, with_current_names
from bid_assets.settings import (
    Settings,
    SettingsError,
    get_settings,
    keep_in_home,
    sources_of_values,
)
from bid_assets.simulation.truth import TRUTH_FILE
from bid_assets_tests.app_db.database import standard_tables
from bid_assets_tests.platforms import call


def test_the_environment_sets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BID_ASSETS_LOOKBACK_WINDOWS", "52")
    assert Settings().lookback_windows == 52


def test_a_start_that_is_no_monday_is_refused_where_windows_are_weeks() -> None:
    with pytest.raises(ValidationError, match="weeks start on Monday"):
        Settings(start="2020-01-01")


def test_what_cannot_be_used_is_named_as_the_variable_that_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BID_ASSETS_LOOKBACK_WINDOWS", "many")
    monkeypatch.setenv("BID_ASSETS_HOLDOUT_SHARE", "7")
    get_settings.cache_clear()
    with pytest.raises(
        SettingsError, match=r"BID_ASSETS_LOOKBACK_WINDOWS=many: Input .*; BID_ASSETS_HOLDOUT_SHARE=7: Input .*0\.9$"
    ):
        get_settings()


def test_every_setting_says_what_it_means() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_what_the_home_remembers_holds_where_nothing_else_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    keep_in_home(tmp_path / "home", "encoder", "another")
    keep_in_home(tmp_path / "home", "encoder", "static")
    monkeypatch.setenv("BID_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("BID_ASSETS_ENCODER", raising=False)
    assert Settings().encoder == "static"
    assert sources_of_values()["encoder"] == "settings.env"
    (tmp_path / ".env").write_text("BID_ASSETS_ENCODER=from-the-folder\n")
    assert Settings().encoder == "from-the-folder"
    assert sources_of_values()["encoder"] == ".env"
    monkeypatch.setenv("BID_ASSETS_ENCODER", "from-the-shell")
    assert Settings().encoder == "from-the-shell"
    assert sources_of_values()["encoder"] == "environment"


def test_distilled_encoders_are_in_the_cache_folder_of_the_user_unless_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("BID_ASSETS_ENCODER_CACHE")
    assert Settings().resolved_encoder_cache == tmp_path / "bid-assets" / "encoders"
    assert Settings(encoder_cache=tmp_path / "shared").resolved_encoder_cache == tmp_path / "shared"


def test_real_bids_are_not_imported_beside_simulated_ones_unless_that_is_meant(settings: Settings, tmp_path: Path) -> None:
    assert settings.app_db_url is not None
    standard_tables(settings.app_db_url)
    truth = settings.home / TRUTH_FOLDER / TRUTH_FILE
    truth.parent.mkdir(parents=True)
    truth.touch()
    exports = tmp_path / "exports"
    exports.mkdir()
    (exports / "profiles.csv").write_text("id\np7\n")
    assert "BID_ASSETS_HOME=DIR bid-assets import" in call("import", str(exports), fails=1).stderr
    call("import", "--mix", str(exports))


@pytest.mark.parametrize(("old", "new"), RENAMED_SETTINGS.items())
def test_the_old_name_of_a_setting_is_read_with_a_warning_that_says_the_new_one(
    old: str, new: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    value = next(each for each in (7, True, "value") if accepts(new, each))
    warning = rf"BID_ASSETS_{old.upper()} \(in the environment\) is now called BID_ASSETS_{new.upper()}"
    monkeypatch.setenv(f"BID_ASSETS_{old.upper()}", str(value))
    with pytest.warns(FutureWarning, match=warning):
        assert getattr(Settings(), new) == value
    with pytest.warns(FutureWarning, match=warning):
        assert sources_of_values()[new] == "environment"
    monkeypatch.delenv(f"BID_ASSETS_{old.upper()}")
    (tmp_path / ".env").write_text(f"BID_ASSETS_{old.upper()}={value}\n")
    with pytest.warns(FutureWarning, match=r"in \.env"):
        assert getattr(Settings(), new) == value
    (tmp_path / ".env").unlink()
    with pytest.warns(FutureWarning, match="an argument"):
        assert getattr(Settings(**{old: value}), new) == value


def test_the_new_name_of_a_setting_is_stronger_than_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BID_ASSETS_THRESHOLD_AIM", "precision")
    monkeypatch.setenv("BID_ASSETS_THRESHOLD_OBJECTIVE", "value")
    with warnings.catch_warnings(action="error"):
        assert Settings().threshold_objective == "value"
    assert with_current_names({"threshold_objective": 1, "threshold_aim": 2, "seed": 3}) == {
        "threshold_objective": 1,
        "seed": 3,
    }


def accepts(name: str, value: object) -> bool:
    try:
        return getattr(Settings(**{name: value}), name) == value
    except ValidationError:
        return False
