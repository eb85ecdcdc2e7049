"""The model and adapter registry on MLflow.

``mlflow`` holds the registry's methods, ``tags`` maps records to MLflow's tags and back, and ``connection`` creates,
locks and opens MLflow's tables.
"""
