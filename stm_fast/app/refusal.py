"""Errors that the server answers with a status of 4xx."""

from stm_fast.errors import StmFastError


class Refusal(StmFastError):
    """A request that is refused.

    Attributes:
        status: of the answer, 400 to 499.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
