"""What the runs of a study measured, without words and pages."""
