"""How good a trained model is: likelihoods, Frechet distances and what the latents hold, with error bars."""
