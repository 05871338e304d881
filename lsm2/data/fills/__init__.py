"""Ways to fill gaps without a model."""
