"""Kinds of tokenizers trained under equal conditions and compared on the same jets."""
