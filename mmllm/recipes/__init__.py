"""Recipes that ship with anyloom, as TOML files."""
