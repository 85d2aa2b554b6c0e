class TestbedError(Exception):
    """A problem that a user can fix; the hint says how."""

    __test__ = False  # pytest collects classes by this prefix

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
