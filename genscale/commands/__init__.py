"""The commands, one file per noun; what they do is in the library."""
