"""The small models of our own that ship with anyloom: generators, encoders, a captioner. Both modes use them."""
