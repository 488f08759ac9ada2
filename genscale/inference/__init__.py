"""Trained models in use: sampling, likelihoods, predictions."""
