"""Suites that ship: built by code out of word lists and of media that are made on the fly."""
