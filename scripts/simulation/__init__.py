"""The parts of scripts/simulate_loop.py."""
