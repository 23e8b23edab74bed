"""All figures of a run for a report, added up in SQL: a dozen passes over its attempts or its rows, in constant memory."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from runner.answer_shape import FieldKind
from runner.figures import Figures
from runner.store.answer_figures import answers_of
from runner.store.by_endpoint import by_endpoint
from runner.store.course import course_of
from runner.store.extremes import dearest, examples, slowest
from runner.store.schema import attempts
from runner.store.spending import Fetch, of_run
from runner.store.spreads import spread


def figures_of(
    fetch: Fetch, run_id: int, answers: int, fields: Mapping[str, FieldKind], codes: Sequence[str], *, priced: bool
) -> Figures:
    """Return all figures of a run.

    fetch: must read one state of the store in all calls. answers: how many of each row are wanted. fields: those of its schema.
    codes: error codes of which examples are wanted. priced: some attempts have a price.
    """
    a, answered = attempts.c, (of_run(run_id), attempts.c.error_code.is_(None))
    behind_first = (a.duration_s - a.time_to_first_token_s) / (a.output_tokens - 1)
    course, causes = course_of(fetch, run_id)
    return Figures(
        course=course,
        causes=causes,
        first_token=spread(fetch, a.time_to_first_token_s, attempts, *answered),
        between_tokens=spread(fetch, sa.case((a.output_tokens > 1, behind_first)), attempts, *answered),
        whole_answer=spread(fetch, a.duration_s, attempts, *answered),
        input_tokens=spread(fetch, a.input_tokens, attempts, *answered),
        output_tokens=spread(fetch, a.output_tokens, attempts, *answered),
        answers=answers_of(fetch, run_id, answers, fields),
        slowest=slowest(fetch, run_id, answers),
        dearest=dearest(fetch, run_id, answers) if priced else [],
        examples=examples(fetch, run_id, answers, codes),
        endpoints=by_endpoint(fetch, run_id),
    )
