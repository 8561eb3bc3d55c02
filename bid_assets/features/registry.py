"""The list of feature families. To add one: write a module with a `FAMILY`, and put its name here; nothing else changes."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from bid_assets.features.family import FeatureFamily, Role

FAMILY_MODULES = (
    "profile",
    "bid_terms",
    "profile_history",
    "client_history",
    "job_embedding",
    "bid_embedding",
    "text_tokens",
)


@cache
def families() -> tuple[FeatureFamily, ...]:
    """All families, in the order of the list."""
    return tuple(import_module(f"bid_assets.features.families.{name}").FAMILY for name in FAMILY_MODULES)


@cache
def features_with_role(role: Role) -> tuple[str, ...]:
    """The names of the features that have this role, in the order of the families and their features."""
    return tuple(feature.name for family in families() for feature in family.features if feature.role is role)
