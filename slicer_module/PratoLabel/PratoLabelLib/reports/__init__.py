"""Volumes and function of the heart as tables and curves of the scene."""
