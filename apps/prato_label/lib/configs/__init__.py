"""The models that this app offers."""
