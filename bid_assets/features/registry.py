"""The list of feature families. To add one: write a module with a `FAMILY`, and put its name here; nothing else changes."""

from __future__ import annotations

from collections.abc import Iterable
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
    """All families, in the order of the list. Raises `ValueError` where two features have one name."""
    members = tuple(import_module(f"bid_assets.features.families.{name}").FAMILY for name in FAMILY_MODULES)
    refuse_duplicate_features(members)
    return members


def refuse_duplicate_features(members: Iterable[FeatureFamily]) -> None:
    """Raise `ValueError` where two features have one name: all of them become columns of one dataset."""
    owners: dict[str, str] = {}
    for family in members:
        for feature in family.features:
            if feature.name in owners:
                raise ValueError(
                    f"the feature {feature.name!r} is in the family {owners[feature.name]} and in {family.name}: rename one of "
                    f"them (all names are in docs/reference/features.md)"
                )
            owners[feature.name] = family.name


@cache
def features_with_role(role: Role) -> tuple[str, ...]:
    """The names of the features that have this role, in the order of the families and their features."""
    return tuple(feature.name for family in families() for feature in family.features if feature.role is role)
