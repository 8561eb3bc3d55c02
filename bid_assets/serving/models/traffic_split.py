"""The split of traffic between the active model and a canary, by profile: a profile always gets the same variant."""

from __future__ import annotations

import hashlib

ACTIVE, CANARY, SHADOW = "active", "canary", "shadow"
"""The variants. A shadow scores every bid and answers none."""


def is_canary_profile(profile_id: str, share: float) -> bool:
    """Whether the profile is among this share of all profiles, 0 to 1, whose predictions the canary makes.

    By a hash whose prefix makes it independent of any other split of profiles by hash.
    """
    digest = hashlib.sha256(b"canary\0" + profile_id.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) / 2**64 < share
