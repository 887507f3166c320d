"""What MONAI Label requires of an app, implemented with `prato`."""
