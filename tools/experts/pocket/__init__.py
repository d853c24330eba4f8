"""Experts over the models of our own that ship with anyloom: they draw, film, play, look and listen."""
