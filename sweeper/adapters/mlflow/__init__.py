"""The record that people look at, in MLflow. Importing this package does not import mlflow."""
