"""Backbones: any causal language model of transformers for training; our own decoder for SmolLM2 at inference."""
