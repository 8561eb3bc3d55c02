"""The models that serve: hot reload (`watcher`), loading and verification (`loaded_model`), description (`model_info`)."""
