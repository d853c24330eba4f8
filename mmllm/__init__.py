"""The end-to-end model: encoders, projectors, backbone, generators, as recipes put together."""
