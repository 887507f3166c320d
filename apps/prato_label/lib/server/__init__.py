"""What this app adds to the MONAI Label server that runs it: checks before work starts, and errors that say why."""
