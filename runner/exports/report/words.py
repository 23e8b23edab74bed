"""Numbers as a report writes them."""

from runner.exports.report.blocks import Facts
from runner.money import PICO
from runner.money import shown as _money


def count(number: float | None) -> str:
    """Return a whole number with its thousands apart."""
    return "unknown" if number is None else f"{round(number):,}"


def figure(number: float) -> str:
    """Return a number in three digits, or all of a larger whole one."""
    if abs(number) >= 1000 or number == int(number):
        return f"{number:,.0f}"
    return f"{number:,.3g}"


def seconds(number: float | None) -> str:
    """Return a duration: ``0.42 s``, ``12 ms``, ``3 min 12 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if number is None:
        return "unknown"
    if number < 0.0995:
        return f"{number * 1000:.3g} ms"
    if number < 119.5:
        return f"{number:.3g} s"
    minutes, rest = divmod(round(number), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def money(dollars: float | None) -> str:
    """Return an amount; an unknown one is never 0."""
    return "unknown" if dollars is None else _money(round(dollars * PICO))


def percent(part: float, whole: float) -> str:
    """Return a share in percent; a small one is not 0, and one that is not whole is not 100."""
    if not whole:
        return "0 %"
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "< 0.1 %"
    if 99.95 <= share < 100:
        return "> 99.9 %"
    return f"{share:.2g} %" if share < 1 else f"{share:.3g} %" if share < 10 else f"{share:.1f} %".replace(".0 %", " %")


def rate(number: float) -> str:
    """Return a rate by the unit in which it is a readable number: per second, per minute or per hour."""
    for factor, unit in ((1, "second"), (60, "minute")):
        if number * factor >= 1:
            return f"{figure(float(f'{number * factor:.3g}'))} per {unit}"
    return f"{figure(float(f'{number * 3600:.3g}'))} per hour"


def sentence(phrase: str) -> str:
    """Return a phrase as a sentence."""
    return f"{phrase[0].upper()}{phrase[1:]}."


def none_ended(facts: Facts) -> str:
    """Return what is said in the place of figures of requests, where none has ended."""
    if facts.opened is not None:
        return f"No request has ended{' yet' if facts.active else ''}: {facts.opened.sentence}."
    return "No request has ended yet." if facts.active else "Nothing was sent."
