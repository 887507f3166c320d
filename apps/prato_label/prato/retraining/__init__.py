"""One round of retraining: a model fine-tuned on submitted labels, compared with the one that answers, and published if it is not worse."""
