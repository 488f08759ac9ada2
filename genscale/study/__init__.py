"""Studies: grids of runs, the places they run in, their stages and their report."""
