"""How good a trained model is: likelihoods with error bars, and pictures."""
