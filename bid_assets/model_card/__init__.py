"""The page that people look at before they trust a model: facts to HTML. No Dagster and no learning library here."""
