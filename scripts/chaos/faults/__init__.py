"""What can happen to a server and its files, done on purpose; see scripts/chaos/prove_faults.py."""
