"""Projectors: linear, MLP, Q-Former and cross-attention resampler on the way in; a transformer on the way out."""
