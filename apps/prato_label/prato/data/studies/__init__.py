"""A studies folder: what lies in it, what its manifest and records say of each study, and how its patients are split."""
