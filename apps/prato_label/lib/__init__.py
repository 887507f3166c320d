"""What MONAI Label asks of an app, answered with `prato`."""
