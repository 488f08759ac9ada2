"""Jets to discrete tokens and back."""
