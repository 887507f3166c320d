"""Training on submitted labels, as MONAI Label's train tasks."""
