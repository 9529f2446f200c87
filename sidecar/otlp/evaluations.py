"""``gen_ai.evaluation.result``, an event of a span or a log record: the outcome of one evaluation."""

import math
from typing import Any, Final

from sidecar.otlp.clipping import IDENTIFIER, NAME, clipped
from sidecar.otlp.spans import Sorted

EVALUATION: Final = "gen_ai.evaluation.result"
_PASSED: Final = frozenset({"pass", "passed", "true", "yes", "correct", "relevant", "good"})
_FAILED: Final = frozenset({"fail", "failed", "false", "no", "incorrect", "irrelevant", "bad"})


def evaluation(told: Sorted, number: str) -> dict[str, Any] | None:
    """The evaluation section; None where there is neither a score nor a label that says whether it passed."""
    label = clipped(told.fields.get("score_label"), NAME)
    score = told.fields.get("score")
    passed = None if label is None else True if label.lower() in _PASSED else False if label.lower() in _FAILED else None
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        if passed is None:
            return None
        score = 1.0 if passed else 0.0
    name = clipped(told.fields.get("evaluation"), NAME) or "unnamed"
    found: dict[str, Any] = {
        "evaluation_id": clipped(f"{told.fields.get('response_id') or name}-{number}", IDENTIFIER),
        "evaluator": name,
        "score": float(score),
    }
    if passed is not None:
        found["passed"] = passed
    if label is not None:
        found["label"] = label
    return found
