"""The report: one HTML page that needs no network, with plots, tables and the artifacts themselves."""
