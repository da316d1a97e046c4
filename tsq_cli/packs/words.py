"""Calibration of a pack's words: temperatures, and levels below which nothing is named. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass

from tsq_cli.validation import check_range


@dataclass(frozen=True, kw_only=True)
class Words:
    """Calibration of reported probabilities and names (ours; benchmarks/words.py measures it, docs/words.md says how).

    A temperature divides scores before their softmax or sigmoid is reported as a probability; null leaves the
    probabilities as they are.

    Attributes:
        visual_temperature, textual_temperature: of the categories behind the two curves.
        least_evidence: a category is named only where both modules put it first and some frame by itself gives it at
            least this score in the visual module (TSQOutput.evidence); else the answer is "unsure". Null names all.
        recognizer_temperature: of the pack's embedded recognizer. Another one is not calibrated: its
            probabilities stay as they are, and it is never unsure.
        least_probability: a class to which the embedded recognizer gives a lower one is not named; 0 names all.
    """

    visual_temperature: float | None = None
    textual_temperature: float | None = None
    least_evidence: float | None = None
    recognizer_temperature: float | None = None
    least_probability: float = 0.0

    def __post_init__(self) -> None:
        temperatures = (self.visual_temperature, self.textual_temperature, self.recognizer_temperature)
        if any(temperature is not None and temperature <= 0 for temperature in temperatures):
            raise ValueError("temperatures above 0")
        check_range("least_probability", self.least_probability, 0, 1)
