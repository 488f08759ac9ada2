"""What all subjects share: the error of bad input, the types of results, and the style of figures."""
