"""What can happen to a server and its files, done on purpose; see scripts/prove_faults.py."""
