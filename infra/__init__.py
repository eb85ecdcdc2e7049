"""Technology: every library that reaches outside the process is imported here and nowhere else."""
