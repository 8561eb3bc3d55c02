"""The model beside LightGBM, XGBoost, CatBoost and logistic regression on TF-IDF, on identical rows; see `__main__`."""
