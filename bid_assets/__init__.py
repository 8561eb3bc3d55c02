"""bid_assets: the feedback loop of a bid-success model as one Dagster asset graph."""
