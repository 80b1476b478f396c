"""Before a run: what is there, what is missing and where it is to be had, and what the run will take."""
