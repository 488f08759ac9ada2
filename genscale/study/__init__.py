"""Studies: grids of runs, the backends that run them, their stages and their report."""
