"""Use of trained models: sampling, likelihoods, predictions."""
