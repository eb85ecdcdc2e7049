"""The model and adapter registry on MLflow."""
