"""The report of a study: one module for each topic, and the page that they make."""
