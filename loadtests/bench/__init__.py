"""The bench: Penstock beside its peers on one machine, CPU time first. `python -m loadtests.bench --help`."""
