"""Counting the records that could not be used, and deciding when there are too many of them."""

from __future__ import annotations

from collections import Counter

from wsis.errors import ExitCode

__all__ = ["FaultCount"]

_WATCHED = 1000
_SHARE = 0.01


class FaultCount:
    """How many records were skipped and why.

    Args:
        limit: most faults a run may have; None: 1 % of the records seen so far, but at least 1 % of 1,000.

    Attributes:
        seen: records so far.
        reasons: skipped records by code.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.seen = 0
        self.reasons: Counter[str] = Counter()

    def add(self, seen: int, reasons: dict[str, int]) -> None:
        self.seen += seen
        self.reasons.update(reasons)

    @property
    def total(self) -> int:
        return sum(self.reasons.values())

    @property
    def allowed(self) -> int:
        return int(_SHARE * max(_WATCHED, self.seen)) if self.limit is None else self.limit

    @property
    def too_many(self) -> bool:
        return self.total > self.allowed

    def exit_code(self) -> ExitCode:
        if self.too_many:
            return ExitCode.TOO_MANY_FAULTS
        return ExitCode.WITH_FAULTS if self.total else ExitCode.OK

    def histogram(self) -> str:
        """One line per reason, the commonest first."""
        width = max((len(code) for code in self.reasons), default=0)
        return "\n".join(f"  {code:<{width}}  {count}" for code, count in self.reasons.most_common())
