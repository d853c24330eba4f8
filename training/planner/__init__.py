"""Training the local planner: phrase banks, request grammar, data, LoRA training, evaluation."""
