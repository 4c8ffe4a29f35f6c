"""Experiments: default.py holds every field, each other file is one of them."""
