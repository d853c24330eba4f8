"""Measures the two modes against each other: on one request (`pair.py`), over a suite (`runner.py`), along chains."""
