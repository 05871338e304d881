"""How well a trained model reconstructs what it could not see, against simple fills that see the same."""
