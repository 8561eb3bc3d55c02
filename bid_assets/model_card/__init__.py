"""The model card: an HTML page and a Markdown summary of a model, its metrics, dataset and limitations.

`page` renders it, `charts` draws inline SVG. No Dagster and no training library here.
"""
