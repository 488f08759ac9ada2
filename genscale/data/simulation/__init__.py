"""Pythia 8 showers, a parametrised detector, clustering: jets in the JetClass schema."""
