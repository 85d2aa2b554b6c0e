class TestbedError(Exception):
    """Something a person can put right; the hint says how."""

    __test__ = False  # pytest collects classes by this prefix

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
