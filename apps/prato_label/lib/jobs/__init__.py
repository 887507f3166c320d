"""Background jobs: trainings, in a process of their own that stays warm, and batch inference."""
