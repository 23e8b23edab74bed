"""The views of a store, for people and their tools. runner itself does not read them."""

from runner.batches import SENT_STATES
from runner.store.cost import billed, cost, held, perhaps, waiting

_SETTINGS = "CASE WHEN json_valid(r.settings) THEN r.settings ELSE '{}' END"
# the key of the row: behind it, that of a further answer has a mark (``several.MARK``) and its number
KEY = "CASE WHEN i.answer_number > 1 THEN substr(i.key, 1, instr(i.key, char(64976)) - 1) ELSE i.key END AS key"
_FIELDS = "CASE WHEN json_valid(i.metadata) THEN i.metadata END"
# A rendered prompt is stored nowhere: a template is shown as it is, and the row's fields are in ``metadata``. Its fields prompt
# and messages are plain data then.
_TEMPLATE = f"coalesce(json_extract({_SETTINGS}, '$.prompt'), json_extract({_SETTINGS}, '$.messages'))"
_ASKED = f"""
               CASE WHEN {_TEMPLATE} IS NULL
                    THEN coalesce(json_extract({_FIELDS}, '$.prompt'), json_extract({_FIELDS}, '$.messages')) END AS prompt,
               {_TEMPLATE} AS template"""
_SENT = ", ".join(f"'{state}'" for state in SENT_STATES)

VIEWS = {
    "overview": """
        SELECT r.id AS run_id, datetime(r.created_at, 'unixepoch') AS begun_utc,
               datetime(r.finished_at, 'unixepoch') AS finished_utc, json_extract(r.settings, '$.model') AS model,
               r.input, r.rows, coalesce(json_extract(r.settings, '$.answers'), 1) AS answers,
               (SELECT count(*) FROM items i WHERE i.run_id = r.id AND i.status = 'done') AS done,
               (SELECT count(*) FROM items i WHERE i.run_id = r.id AND i.status = 'failed') AS failed,
               r.stop_reason
        FROM runs r
    """,
    "answers": f"""
        SELECT i.run_id, i.position, {KEY}, {_ASKED}, i.text, i.answer_number, i.finish_reason, i.notes,
               coalesce(a.served_model, u.served_model) AS served_model, coalesce(a.input_tokens, u.input_tokens) AS input_tokens,
               coalesce(a.output_tokens, u.output_tokens) AS output_tokens, i.attempts,
               coalesce(a.time_to_first_token_s, u.time_to_first_token_s) AS time_to_first_token_s,
               coalesce(a.duration_s, u.duration_s) AS duration_s,
               datetime(coalesce(a.started_at + a.duration_s, u.started_at + u.duration_s), 'unixepoch') AS answered_utc,
               i.metadata, i.extra, u.from_run AS reused_from, i.same_as
        FROM items i JOIN runs r ON r.id = i.run_id LEFT JOIN attempts a ON a.id = i.attempt_id
             LEFT JOIN reused u
             ON i.attempt_id IS NULL AND i.same_as IS NULL AND u.run_id = i.run_id AND u.item_key = i.key
        WHERE i.status = 'done'
    """,  # noqa: S608 - constants
    "failures": f"""
        SELECT i.run_id, i.position, {KEY}, i.answer_number, {_ASKED}, i.error_code, i.error, i.attempts,
               a.status AS http_status, a.sent, a.duration_s,
               datetime(a.started_at + a.duration_s, 'unixepoch') AS failed_utc, i.metadata, i.same_as
        FROM items i JOIN runs r ON r.id = i.run_id LEFT JOIN attempts a ON a.id = i.attempt_id
        WHERE i.status = 'failed'
    """,  # noqa: S608 - as above
    "spend": f"""
        SELECT a.run_id, a.served_model, coalesce(a.error_code, 'done') AS cause, count(*) AS attempts,
               sum(a.sent = 0) AS unsent,
               sum(a.error_code IS NOT NULL AND a.output_tokens IS NULL AND {billed("a")}) AS perhaps_billed,
               sum(a.input_tokens) AS input_tokens, sum(a.output_tokens) AS output_tokens, sum(a.cached_tokens) AS cached_tokens,
               sum(a.cache_write_tokens) AS cache_write_tokens, sum(a.cache_write_1h_tokens) AS cache_write_1h_tokens,
               sum(a.reasoning_tokens) AS reasoning_tokens,
               sum(a.bytes_received) AS bytes_received, sum(a.duration_s) AS duration_s,
               sum(p.input * 0 + CASE WHEN {billed("a")} THEN coalesce({cost("a", "p")}, 0) ELSE 0 END) / 1e12 AS cost,
               CASE WHEN total({billed("a")} AND a.input_bound IS NOT NULL AND a.output_bound IS NULL) = 0
                  THEN sum(p.input * 0 + CASE WHEN {billed("a")} THEN {perhaps("a", "p")} ELSE 0 END) / 1e12 END AS cost_perhaps,
               sum({billed("a")} AND p.input IS NULL) AS unpriced
        FROM attempts a LEFT JOIN prices p ON p.id = a.price_id
        GROUP BY a.run_id, a.served_model, a.error_code
        UNION ALL
        SELECT r.run_id, NULL, 'open', sum(r.requests), 0, sum(r.requests), NULL, NULL, NULL, NULL, NULL, NULL, 0, 0.0,
               sum(p.input * 0) / 1e12,
               CASE WHEN total(r.output_bound IS NULL) = 0 THEN sum({held("r", "p")}) / 1e12 END,
               sum(r.requests * (p.input IS NULL))
        FROM reservations r LEFT JOIN prices p ON p.id = r.price_id
        GROUP BY r.run_id
        UNION ALL
        SELECT b.run_id, NULL, 'batch', sum(b.waiting + b.released), 0, sum(b.waiting + b.released), NULL, NULL, NULL, NULL, NULL,
               NULL, 0, 0.0, sum(p.input * 0) / 1e12,
               CASE WHEN total(b.left_unlimited) = 0 THEN sum({waiting("b", "p")}) / 1e12 END,
               sum((b.waiting + b.released) * (p.input IS NULL))
        FROM batches b LEFT JOIN prices p ON p.id = b.price_id
        WHERE b.state IN ({_SENT}) AND b.waiting + b.released > 0
        GROUP BY b.run_id
    """,  # noqa: S608 - as above
}
"""By name, each what is behind ``CREATE VIEW ... AS``."""
