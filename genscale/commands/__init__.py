"""The commands, grouped by what they work on; each calls one function of the package."""
