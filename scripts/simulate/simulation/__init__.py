"""The parts of scripts/simulate/simulate_loop.py."""
