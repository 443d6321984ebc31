"""Recognises the exports of forms, learning platforms and annotation tools by the names of their columns.

The names are those that the tools write: Google Forms and Microsoft Forms responses, Moodle's quiz report "Responses",
Canvas' "Student Analysis", Qualtrics' CSV and Label Studio's CSV.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from edgedistill_serve.grading.column_names import fold_name

Tool: TypeAlias = Literal["Google Forms", "Microsoft Forms", "Moodle", "Canvas", "Qualtrics", "Label Studio", ""]


def _names(listed: str) -> frozenset[str]:
    return frozenset(fold_name(name) for name in listed.split("|"))


_TIMESTAMPS = _names(
    "Timestamp|Zeitstempel|Horodateur|Marca temporal|Carimbo de data/hora|Informazioni cronologiche|Tijdstempel|"
    "Sygnatura czasowa|Tidsstämpel|Tidsstempel|Aikaleima|Zaman damgas\u0131|Отметка времени|Позначка часу|"
    "طابع زمني|חותמת זמן|タイムスタンプ|타임스탬프|时间戳记|時間戳記"
)
_GOOGLE = _names(
    "Email Address|Username|Score|E-Mail-Adresse|Nutzername|Punktestand|Adresse e-mail|Nom d'utilisateur|"
    "Dirección de correo electrónico|Nombre de usuario|Puntuación|Endereço de e-mail|Indirizzo email"
)
_MICROSOFT = _names(
    "ID|Start time|Completion time|Email|Name|Last modified time|Total points|Quiz feedback|Language|Startzeit|"
    "Fertigstellungszeit|E-Mail|Zeitpunkt der letzten Änderung|Sprache"
)
_MOODLE = _names(
    "Last name|Surname|First name|Full name|ID number|Username|Institution|Department|Email address|State|Status|"
    "Started on|Started|Completed|Time taken|Duration|Attempt|Nachname|Vorname|Matrikelnummer|E-Mail-Adresse|"
    "Begonnen am|Beendet|Verbrauchte Zeit|Apellido(s)|Nombre|Dirección de correo|Estado|Comenzado el|Finalizado|"
    "Tiempo requerido|Nom de famille|Prénom|Adresse de courriel|État|Commencé le|Terminé|Temps utilisé"
)
_CANVAS = _names(
    "name|id|sis_id|root_account|section|section_id|section_sis_id|submitted|attempt|n correct|n incorrect|score"
)
_QUALTRICS = _names(
    "StartDate|EndDate|Status|IPAddress|Progress|Duration (in seconds)|Finished|RecordedDate|ResponseId|"
    "RecipientLastName|RecipientFirstName|RecipientEmail|ExternalReference|LocationLatitude|LocationLongitude|"
    "DistributionChannel|UserLanguage|Q_RecaptchaScore|Q_BallotBoxStuffing"
)
_LABEL_STUDIO = frozenset(["annotator", "annotation_id", "created_at", "updated_at", "lead_time"])
_MOODLE_RESPONSE = re.compile(r"(?:response|antwort|respuesta|réponse|resposta|risposta)[ _]([0-9]+)")
_MOODLE_QUESTION = re.compile(r"(?:question|frage|pregunta|pergunta|domanda)[ _]([0-9]+)")
_MOODLE_RIGHT = re.compile(
    r"(?:right answer|richtige antwort|respuesta correcta|bonne réponse|réponse juste)[ _]([0-9]+)"
)
_MOODLE_GRADE = re.compile(r"(?:grade|bewertung|calificación|note|nota|q\. ?[0-9]+ ?)/[0-9.,]+|q\. ?[0-9]+ /[0-9.,]+")
_CANVAS_QUESTION = re.compile(r"[0-9]{2,}: ")
_CANVAS_POINTS = re.compile(r"[0-9]+(?:\.[0-9]+)?(?: \([0-9]+\))?")
_FORMS_POINTS = re.compile(
    r".*\[(?:score|feedback|punktzahl|puntuación|note)\]|(?:points|feedback|punkte) [-\u2013] .*"
)


@dataclass(frozen=True, slots=True)
class Export:
    """An export of a tool.

    Attributes:
        tool: Its name; empty for another table.
        own: Columns that the tool adds, such as times and names of learners; they hold neither responses nor codes.
        responses: Columns of responses; empty if the tool does not say which they are.
        questions: By column of responses, the column of its question text.
        right_answers: By column of responses, the column of its right answer.
        id: The column that names each row; None if the tool has none.
        learner: The column that names each row's learner; None if the tool has none.
    """

    tool: Tool
    own: frozenset[str] = frozenset()
    responses: tuple[str, ...] = ()
    questions: Mapping[str, str] = field(default_factory=dict)
    right_answers: Mapping[str, str] = field(default_factory=dict)
    id: str | None = None
    learner: str | None = None


def recognise_export(columns: Sequence[str], question_texts: Sequence[str] = ()) -> Export:
    """Return which tool exported a table, by its columns.

    Args:
        columns: The names of the columns, in order.
        question_texts: By column, the second header row of Qualtrics; empty for other tables.
    """
    folded = {fold_name(name): name for name in reversed(columns)}
    if question_texts or len(_QUALTRICS & folded.keys()) >= 4:
        return Export("Qualtrics", _named(folded, _QUALTRICS), id=folded.get("responseid"))
    if len(_LABEL_STUDIO & folded.keys()) >= 4:
        return Export("Label Studio", _named(folded, _LABEL_STUDIO), id=folded.get("id"))
    if len(_CANVAS & folded.keys()) >= 6:
        questions = tuple(name for name in columns if _CANVAS_QUESTION.match(name))
        points = frozenset(name for name in columns if _CANVAS_POINTS.fullmatch(name.strip()))
        return Export("Canvas", _named(folded, _CANVAS) | points, questions, learner=folded.get("id"))
    if moodle := _moodle(columns, folded):
        return moodle
    first = fold_name(columns[0]) if columns else ""
    if len({"start time", "completion time", "startzeit", "fertigstellungszeit"} & folded.keys()) >= 2:
        own = _named(folded, _MICROSOFT) | _points(columns)
        return Export("Microsoft Forms", own, id=folded.get("id"), learner=folded.get("email") or folded.get("e-mail"))
    if first in _TIMESTAMPS:
        own = _named(folded, _GOOGLE | {first}) | _points(columns)
        learner = next((name for name in columns if fold_name(name) in _GOOGLE and "@" not in name), None)
        score = {"score", "punktestand", "puntuación"}
        return Export("Google Forms", own, learner=None if learner and fold_name(learner) in score else learner)
    return Export("")


def _named(folded: Mapping[str, str], known: frozenset[str]) -> frozenset[str]:
    return frozenset(folded[name] for name in known & folded.keys())


def _points(columns: Sequence[str]) -> frozenset[str]:
    """Return the columns of points and feedback that forms with a quiz have beside each question."""
    return frozenset(name for name in columns if _FORMS_POINTS.fullmatch(fold_name(name)))


def _moodle(columns: Sequence[str], folded: Mapping[str, str]) -> Export | None:
    found = {name: match[1] for name in columns if (match := _MOODLE_RESPONSE.fullmatch(fold_name(name)))}
    grades = frozenset(name for name in columns if _MOODLE_GRADE.fullmatch(fold_name(name)))
    own = _named(folded, _MOODLE)
    if not found or len(own) + bool(grades) < 3:
        return None
    by_number = {
        kind: {match[1]: name for name in columns if (match := pattern.fullmatch(fold_name(name)))}
        for kind, pattern in (("question", _MOODLE_QUESTION), ("right", _MOODLE_RIGHT))
    }
    questions, right = (
        {name: by_number[kind][number] for name, number in found.items() if number in by_number[kind]}
        for kind in ("question", "right")
    )
    learner = next(
        (folded[name] for name in ("email address", "e-mail-adresse", "dirección de correo") if name in folded), None
    )
    return Export("Moodle", own | grades, tuple(found), questions, right, learner=learner)
