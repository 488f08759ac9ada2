"""Readers of foreign jet formats, one file each."""
