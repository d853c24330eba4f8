"""Experts of the full profile: the field's own models through their own libraries."""
