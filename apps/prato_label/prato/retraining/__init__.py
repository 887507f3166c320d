"""One round of retraining: a model fine-tuned on submitted labels, compared with the current one, and published if it is not worse."""
