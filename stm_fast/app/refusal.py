"""What a request is answered with if it cannot be served."""

from stm_fast.errors import StmFastError


class Refusal(StmFastError):
    """A request that is refused.

    Attributes:
        status: of the answer, 400 to 499.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
