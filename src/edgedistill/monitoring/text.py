"""The report in words, and as a page without scripts or addresses."""

from collections.abc import Iterator, Sequence
from html import escape

from edgedistill.monitoring.results import Alarm, CodedNow, Interval, MonitorReport, PromiseNow, WeekFigures

_SHOWN_ITEMS = 20
_LONGEST_HASH = 8

_ADVICE = {
    "label": (
        "Learners, items or the way in which people answer changed, or the model errs in another way: only human codes "
        "tell which. Code a sheet (--sheet), and give the codes to --codes."
    ),
    "review": (
        "People get more or less work than planned. The reasons by week say why: new questions need a reference, texts "
        "unlike training or below the threshold need codes and new training."
    ),
    "probability": (
        "The model is more or less sure than it was. Its decision rule was validated on the earlier probabilities: "
        "have the promise tested by codes (--sheet, --codes)."
    ),
    "novelty": (
        "Responses are unlike those that the model was trained on. Look at some of them; have them coded, and train "
        "again with them."
    ),
    "tokens": (
        "Responses are longer or shorter than they were: another device, another way of asking, pasted or empty texts. "
        "Look at some of them before you trust their labels."
    ),
}


def describe_report(report: MonitorReport) -> Iterator[str]:
    """Yield the report, a line each."""
    items = sum(bool(each.item) for each in report.watched)
    yield (
        f"{report.model} {report.version}: {report.rows} responses to {_count(items, 'item')}, weeks of "
        f"{report.weeks[0]} to {report.weeks[1]}"
    )
    if report.alarms:
        yield f"CHANGED: {_count(len(report.alarms), 'quantity', 'quantities')}"
        for alarm in report.alarms:
            yield f"  {describe_alarm(alarm)}"
        for quantity in dict.fromkeys(alarm.quantity for alarm in report.alarms):
            yield f"  What to do ({quantity}): {_ADVICE[quantity]}"
    else:
        yield "No change is shown."
    yield f"  {describe_rate(report)}"
    if report.codes is not None:
        yield from describe_codes(report.codes)
    elif report.audit["drawn"]:
        yield (
            f"{_count(report.audit['drawn'], 'response')} drawn for people, of {report.audit['with_id']} with an id; "
            "kappa in use is not known without codes (--sheet, --codes)"
        )
    else:
        yield "No response was drawn for people (serve --audit-share): kappa in use cannot be measured."
    for note in report.notes:
        yield f"note: {note}"


def describe_alarm(alarm: Alarm) -> str:
    """Return what changed, since when, and how much, as one sentence."""
    where = f"item {short_item(alarm.item)}" if alarm.item else "all responses"
    which = "reviewed responses" if alarm.quantity == "review" else f"responses with {alarm.what}"
    low, high = alarm.allowed
    return (
        f"{where}, {alarm.quantity}: the share of {which} was {alarm.reference:.3f} in the {alarm.compared_with}, "
        f"which allow {low:.3f} to {high:.3f}; since the week of {alarm.since} it is {_interval(alarm.now)} (found in "
        f"the week of {alarm.found})"
    )


def describe_rate(report: MonitorReport) -> str:
    """Return the stated false-alarm rate, and what is compared with what."""
    every = report.watched[0]
    with_reference = sum(bool(each.item) and each.compared_with == "validation rows" for each in report.watched)
    by_weeks = sum(each.compared_with == "first weeks" for each in report.watched)
    waiting = sum(each.compared_with == "nothing yet" for each in report.watched)
    return (
        f"If nothing changes, the probability that there is ever an alarm is at most {100 * report.false_alarms:g} %. "
        f"All responses are compared with {every.reference_rows} validation rows; {_count(with_reference, 'item')} "
        f"with those of the item, {by_weeks} with their own first weeks, {waiting} with nothing yet. Differences of a "
        f"share up to {report.tolerance:g} raise no alarm."
    )


def describe_codes(codes: CodedNow) -> Iterator[str]:
    """Yield what human codes say, a line each."""
    yield f"{codes.coded} of {codes.drawn} drawn responses have a human code"
    if codes.kappa is not None:
        release = "" if codes.kappa_at_release is None else f"; at release {_interval(codes.kappa_at_release)}"
        difference = (
            ""
            if codes.difference is None
            else f"; difference {_interval(codes.difference)}: {_OUTCOMES[codes.outcome]}"
        )
        yield f"  {codes.kappa_name} now {_interval(codes.kappa)}{release}{difference}"
    if codes.kappa_of_accepted is not None:
        yield f"  of the accepted responses {_interval(codes.kappa_of_accepted)}"
    for promise in codes.promises:
        yield f"  {describe_promise(promise)}"
    for note in codes.notes:
        yield f"  note: {note}"


_OUTCOMES = {"lower": "kappa is LOWER", "higher": "kappa is higher", "not shown": "no difference is shown"}


def describe_promise(promise: PromiseNow) -> str:
    """Return what codes say about a part of the promise."""
    of = "" if promise.of == "all" else f" for the label {promise.of}"
    found = f"{promise.wrong} of {promise.accepted} accepted and coded responses are wrong"
    if promise.share is not None:
        found += f", {_interval(promise.share)}"
    outcome = {
        "certified again": "certified again",
        "withdrawn": "WITHDRAWN: send every response to a person, or raise the thresholds by a new export",
        "not enough codes": "not enough codes"
        + (
            f": about {promise.more} more" if promise.more is not None else "; no number of practical size would decide"
        ),
    }[promise.outcome]
    return f"promise of at most {promise.promised:.3g} wrong{of}: {outcome} ({found})"


def short_item(item: str) -> str:
    """Return the first digits of a hash, and a name as it is."""
    is_hash = len(item) == 32 and not set(item) - set("0123456789abcdef")
    return item[:_LONGEST_HASH] if is_hash else item


def html_page(report: MonitorReport) -> str:
    """Return the report as a page."""
    title = f"{report.model} {report.version} in use"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n<h1>{escape(title)}</h1>\n{html_body(report)}</body></html>\n"
    )


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .7rem;text-align:right}"
    "td,th{border-bottom:1px solid #ccc}"
    "td:first-child,th:first-child{text-align:left}.changed{color:#a00;font-weight:bold}"
)


def html_body(report: MonitorReport) -> str:
    """Return the report as HTML: the lines of `describe_report`, and the figures of each week."""
    lines = "".join(
        f"<p{' class=changed' if line.startswith('CHANGED') else ''}>{escape(line.strip())}</p>\n"
        for line in describe_report(report)
    )
    figures = [each for each in report.by_week if not each.item]
    tables = [("All responses by week", figures)]
    rows = {each.item: each.rows for each in report.watched if each.item}
    flagged = [alarm.item for alarm in report.alarms if alarm.item]
    largest = sorted(rows, key=lambda item: -rows[item])
    tables += [
        (f"Item {short_item(item)}", [each for each in report.by_week if each.item == item])
        for item in list(dict.fromkeys([*flagged, *largest]))[:_SHOWN_ITEMS]
    ]
    parts = [_html_table(caption, weeks, report) for caption, weeks in tables]
    left = len(rows) - (len(tables) - 1)
    more = f"<p>{left} other items are in monitor.json.</p>" if left > 0 else ""
    return f"{lines}{''.join(parts)}{more}<p>Intervals in these tables are 95 % intervals of one week alone.</p>\n"


def _html_table(caption: str, weeks: Sequence[WeekFigures], report: MonitorReport) -> str:
    labels = list(dict.fromkeys(name for each in weeks for name in each.labels))
    means = list(dict.fromkeys(name for each in weeks for name in each.means))
    heads = ["week", "responses", *labels, "review", *(f"mean {name}" for name in means)]
    body = []
    if caption.startswith("All"):
        found = report.reference
        review = "" if found["review"] is None else f"{found['review']:.3f}"
        shares = [f"{found['labels'].get(name, 0):.3f}" for name in labels]
        averages = [f"{found['means'][name]:.3g}" if name in found["means"] else "" for name in means]
        body.append(["validation rows", str(found["rows"]), *shares, review, *averages])
    for each in weeks:
        shares = [_interval(each.labels[name]) if name in each.labels else "" for name in labels]
        averages = [f"{each.means[name]:.3g}" if name in each.means else "" for name in means]
        body.append([each.week, str(each.rows), *shares, _interval(each.review), *averages])
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    lines = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in body)
    return f"<h2>{escape(caption)}</h2><table><tr>{head}</tr>\n{lines}</table>\n"


def _interval(found: Interval) -> str:
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _count(number: int, name: str, plural: str = "") -> str:
    return f"{number} {name if number == 1 else plural or f'{name}s'}"
