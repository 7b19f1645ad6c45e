"""Adapters: what they are, whether they fit their base, and their entries among the models."""
