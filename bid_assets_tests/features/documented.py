"""The feature families that the documentation writes: the laws hold for them as for those of the list."""

from __future__ import annotations

import re
from types import ModuleType

from bid_assets.features.family import FeatureFamily
from bid_assets_tests.conftest import CHECKOUT


def documented_family(page: str) -> FeatureFamily:
    """The `FAMILY` of the page's only block of Python."""
    [code] = re.findall(r"```python\n(.*?)```", (CHECKOUT / "docs" / page).read_text(), re.DOTALL)
    module = ModuleType(page)
    exec(compile(code, page, "exec"), module.__dict__)
    assert isinstance(module.FAMILY, FeatureFamily)
    return module.FAMILY


FIRST_FEATURE = documented_family("tutorials/first_feature.md")
PACE = documented_family("how-to/add_a_feature_family.md")
