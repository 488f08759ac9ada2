"""Data seen more than once: laws, overfitting threshold, and other inputs."""
