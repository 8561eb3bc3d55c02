"""bid_assets: the feedback loop of a bid-success model as one Dagster asset graph.

The Python API for notebooks (`load_model`, `load_dataset`, `Store`) is in `api`, imported when first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bid_assets.api import Model, Store, Version, load_dataset, load_model

__all__ = ["Model", "Store", "Version", "load_dataset", "load_model"]


def __getattr__(name: str) -> Any:
    """The names of the API, imported lazily: importing the package stays cheap."""
    if name in __all__:
        from bid_assets import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
