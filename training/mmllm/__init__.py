"""Training of the end-to-end model: data, stages, losses apart, preference."""
