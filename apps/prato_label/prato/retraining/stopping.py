"""How work under way is told to stop."""


class Stopped(Exception):
    """The training was stopped before its end; what it had reached is stored."""
