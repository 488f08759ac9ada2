"""The report of a study: its sections, tables, figures and the page they make."""
