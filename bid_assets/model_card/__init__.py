"""The model card: an HTML page and a Markdown summary of a model, its metrics, dataset and limitations.

`page` renders it, with the plots of `modelling/evaluation`. No Dagster and no training library here.
"""
