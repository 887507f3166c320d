"""What this app adds to the MONAI Label server that runs it: checks before work starts, and reasons instead of bare errors."""
