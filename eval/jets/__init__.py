"""Observables of jets, and the geometry they need."""
