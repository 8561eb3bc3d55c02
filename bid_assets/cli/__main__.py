"""`python -m bid_assets.cli`."""

from bid_assets.cli import main

main()
