"""Trainings in the background: one at a time, in a process of their own that stays warm."""

from lib.jobs.job import Job
from lib.jobs.job_queue import BusyError, JobQueue

__all__ = ["BusyError", "Job", "JobQueue"]
