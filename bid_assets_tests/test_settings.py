from pathlib import Path

import pytest
from pydantic import ValidationError

from bid_assets.commands.settings import settings_markdown
from bid_assets.settings import Settings, SettingsError, get_settings


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


def test_the_page_of_settings_is_what_the_command_prints() -> None:
    page = (Path(__file__).parent.parent / "docs" / "settings.md").read_text()
    assert page.endswith(settings_markdown() + "\n")


def test_every_setting_says_what_it_means() -> None:
    assert all(field.description for field in Settings.model_fields.values())
