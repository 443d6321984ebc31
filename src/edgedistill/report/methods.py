"""The methods section of a paper about a run: what was done, from the files of its run folder.

methods()    the paragraphs; what a run does not show is left out, or said not to have been measured
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from edgedistill.data import RowCounts
from edgedistill.data.reading import near_duplicate
from edgedistill.evaluation.types import QuestionTable
from edgedistill.project.schema import Project
from edgedistill.project.student import StudentSection
from edgedistill.project.teacher import AnyTeacher, ExistingLabelsSection, TeacherSection
from edgedistill.report.claims import (
    estimate_sentences,
    guarantee_sentences,
    learning_curve_sentences,
    novelty_sentences,
)
from edgedistill.report.formatting import count, estimate, figure, percent, percent_estimate, pluralize, rows, setting
from edgedistill.report.inputs import ReportInputs
from edgedistill.report.paper_markup import Paragraph, cite, plain, table_reference
from edgedistill.report.sections import mixture_table, summarize_trials
from edgedistill.report.verdict import listed
from edgedistill.teacher import ModelVersion

_KAPPA = {
    "nominal": f"Cohen's \u03ba {cite('cohen1960')}",
    "ordinal": f"quadratic weighted \u03ba {cite('cohen1968')}",
    "multilabel": f"the mean over labels of Cohen's \u03ba {cite('cohen1960')}",
}
_METRICS = {"kappa": "\u03ba", "accuracy": "accuracy", "macro_f1": "macro-F1"}
_HASH = 16


@dataclass(frozen=True, slots=True)
class PlanCheck:
    """A preregistration, compared with the run.

    Attributes:
        date: When it was made, as in ``2026-01-31T12:00:00+00:00``.
        sha256: Of its file.
        kept: The parts that the run has as it says.
        changed: The parts that were changed afterwards.
        before_evaluation: Whether it was made before the test rows were evaluated, as `run.json` has it.
    """

    date: str
    sha256: str
    kept: Sequence[str]
    changed: Sequence[str]
    before_evaluation: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodsInputs:
    """What the methods section is written from.

    Attributes:
        report: The files of the run folder.
        project: The project file that they were made with.
        prompts: By teacher, the SHA-256 of its coding prompt without examples and response.
        answers: By teacher, the model versions that answered; empty where the cache is not at hand.
        plan: The preregistration; None without one.
    """

    report: ReportInputs
    project: Project
    prompts: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, Sequence[ModelVersion]] = field(default_factory=dict)
    plan: PlanCheck | None = None


def methods(inputs: MethodsInputs) -> tuple[Paragraph, ...]:
    """Return the paragraphs of the methods section.

    They name no row, quote no response, and have no number that is not in the run's files or in the project file.
    """
    paragraphs = (
        ("Data", _data(inputs)),
        ("Codebook and human codes", _codes(inputs)),
        ("Teacher", _teacher(inputs)),
        ("Synthetic responses", _synthetic(inputs)),
        ("Student", _student(inputs)),
        ("Calibration and decision rule", _decisions(inputs)),
        ("Evaluation", _evaluation(inputs)),
        ("Exported model", _export(inputs)),
        ("Estimates", estimate_sentences(inputs.report.estimates)),
        ("Learning curve", learning_curve_sentences(inputs.report)),
        ("Preregistration", _preregistration(inputs)),
        ("Software", _software(inputs)),
        ("Not measured", _not_measured(inputs)),
    )
    found = (Paragraph(heading, tuple(sentences)) for heading, sentences in paragraphs)
    return tuple(paragraph for paragraph in found if paragraph.sentences)


def _data(inputs: MethodsInputs) -> Iterator[str]:
    report, project = inputs.report, inputs.project
    for each in report.run_log.rows:
        yield _file(each)
    others = [plain(name) for name in project.task.inputs if name != "response"]
    if others:
        yield f"A row is a response together with its {listed(others)}."
    if project.task.redact:
        yield (
            "Web addresses, e-mail addresses and phone numbers"
            f"{' and patterns of the project' if project.task.redact.ids else ''} were replaced in every text before "
            "anybody or anything coded it."
        )
    twins = report.evaluation.twins
    made = (
        "The splits were given with the data."
        if report.evaluation.predefined_split
        else (
            "The splits were drawn at random, stratified by label, with the seed "
            f"{project.data.split.seed}; responses with the same text "
            f"{'or from the same group (a learner) ' if project.data.group_by else ''}are never in two splits."
        )
    )
    asked = report.evaluation.questions
    yield (
        _held_out(asked, made, project.data.split.seed, drawn=not report.evaluation.predefined_split)
        if (asked and asked.held_out)
        else made
    )
    same = report.evaluation.test_texts_also_in_train_or_validation
    yield (
        f"{_number(same, 'row')} of the test split {_is(same)} the same to the student as a training or validation "
        f"row, and {count(twins.near) if twins.near else 'none'} nearly the same (a Jaccard similarity of character "
        f"trigrams {cite('broder1997')} of {setting(near_duplicate(project))} or more)."
    )
    groups = report.evaluation.test_groups_also_in_train_or_validation
    if groups:
        yield f"{pluralize(groups, 'group')} of the test split also {_has(groups)} rows in another split."
    yield f"{table_reference('data_flow')} accounts for every row."


def _held_out(asked: QuestionTable, made: str, seed: int, *, drawn: bool) -> str:
    """How whole questions were held out."""
    if drawn:
        made = f"Whole questions were drawn at random, stratified by label, with the seed {seed}."
    parts = [
        f"{rows(part.rows)} of {pluralize(part.questions, f'{name} question')}"
        for part, name in ((asked.unknown, "unknown"), (asked.known, "known"))
        if part
    ]
    return (
        f"{made} The {rows(asked.validation_rows_of_unknown)} of the validation split answer "
        f"{pluralize(asked.validation_questions, 'question')} without training rows; the test split has "
        f"{listed(parts)} (known: with training rows)."
    )


def _file(counts: RowCounts) -> str:
    splits = [f"{count(number)} {what}" for what, number in counts.used.items() if what != "to label"]
    parts = [f"{listed(splits)} rows were used"] if splits else []
    if "to label" in counts.used:
        parts.append(f"{count(counts.used['to label'])} {_were(counts.used['to label'])} coded by the teacher")
    aside = [f"{count(number)} {plain(reason)}" for reason, number in counts.set_aside.items()]
    total = sum(counts.set_aside.values())
    parts.append(f"{count(total)} {_were(total)} set aside ({', '.join(aside)})" if aside else "none was set aside")
    return f"Of the {rows(counts.read)} of {plain(counts.file)}, {listed(parts)}."


def _codes(inputs: MethodsInputs) -> Iterator[str]:
    evaluation = inputs.report.served
    names = [plain(name) for name in evaluation.labels]
    how = {
        "nominal": "exactly one of",
        "ordinal": "exactly one of the ordered labels",
        "multilabel": "any number of",
    }[evaluation.kind]
    yield f"A response is coded with {how} {listed(names)} ({table_reference('codebook')})."
    if coding := inputs.report.coding:
        entered = f" (except {pluralize(coding.from_table, 'code')} of the table)" if coding.from_table else ""
        yield (
            f"The human codes of {rows(coding.labelled)} were given by {pluralize(len(coding.coders), 'coder')}, each "
            f"in a random order and without the codes of others or of a model{entered}; "
            f"{rows(coding.double_coded)} were coded by at least two coders, {count(coding.disputed)} of them "
            f"differently, and the labels of {rows(coding.adjudicated)} were decided by adjudication."
        )
    human_agreement = evaluation.human_agreement
    if human_agreement is None:
        yield "Agreement between human coders was not measured on the test rows."
        return
    alpha = "undefined" if human_agreement.alpha is None else figure(human_agreement.alpha)
    yield (
        f"{pluralize(len(human_agreement.coders), 'human coder')} coded {rows(human_agreement.rows)} of the test split "
        f"at least twice; Krippendorff's \u03b1 {cite(*_alpha(evaluation.kind))} is {alpha} "
        f"({table_reference('inter_coder')})."
    )
    for note in (*human_agreement.notes, *([human_agreement.alt_test_note] if human_agreement.alt_test_note else [])):
        yield f"{plain(note)[:1].upper()}{plain(note)[1:].rstrip('.')}."
    for pair in human_agreement.pairs if len(human_agreement.pairs) == 1 else ():
        if pair.agreement:
            yield f"On the {rows(pair.rows)} that both coded, their \u03ba is {estimate(pair.agreement.kappa)}."
    if tested := human_agreement.alt_test:
        yield (
            f"In the alternative annotator test {cite('calderon2025')} with \u03b5 = {setting(tested.epsilon)}, the "
            f"model beats {count(sum(each.beaten for each in tested.coders))} of "
            f"{pluralize(len(tested.coders), 'coder')}; its average "
            f"advantage probability is {estimate(tested.advantage)} ({table_reference('alt_test')})."
        )


def _alpha(kind: str) -> tuple[str, ...]:
    return ("krippendorff2011", "passonneau2006") if kind == "multilabel" else ("krippendorff2011",)


def _teacher(inputs: MethodsInputs) -> Iterator[str]:
    report, project = inputs.report, inputs.project
    if not project.panel:
        yield "No language model coded responses."
        return
    for each in project.panel:
        yield from _one_teacher(inputs, each) if isinstance(each, TeacherSection) else _existing_labels(inputs, each)
    gate = report.gate
    for found in gate.teachers if gate else ():
        name = f" of {plain(found.teacher)}" if len(project.panel) > 1 else ""
        passed = (
            "passed"
            if found.passed
            else "did not pass, and was used nevertheless"
            if found.accepted
            else "did not pass"
        )
        yield (
            f"On {rows(found.rows)} of the validation split, of which the teacher coded {count(found.coded)}, the "
            f"{_METRICS[found.metric]}{name} with the human codes is {estimate(found.reached)}; the lower limit of the "
            f"interval had to reach {setting(found.at_least)}, and the teacher {passed}."
        )
    label = report.run_log.stages.get("label", {})
    if label:
        yield (
            f"The teacher labelled {count(label.get('labelled'))} of "
            f"{pluralize(label.get('rows', 0), 'uncoded response')}."
        )
    if len(project.panel) > 1:
        weights = "weighted by their agreement" if project.teachers_vote == "gate_weighted" else "of equal weight"
        yield f"The labels of the teachers that were used were combined by majority vote, {weights}."


def _one_teacher(inputs: MethodsInputs, teacher: TeacherSection) -> Iterator[str]:
    host = urlsplit(teacher.base_url).hostname or ""
    where = "on the same computer" if host in ("localhost", "127.0.0.1", "::1") else f"at {plain(host)}"
    temperature = (
        "the endpoint's default temperature"
        if teacher.temperature is None
        else f"temperature {setting(teacher.temperature)}"
    )
    yield (
        f"The language model {plain(teacher.model)}, reached through an OpenAI-compatible endpoint {where}, coded each "
        f"response {_times(teacher.votes)} with {temperature}"
        f"{', each vote with its own seed' if teacher.seed and teacher.votes > 1 else ''}."
    )
    if versions := inputs.answers.get(teacher.called):
        yield f"The answers were given by {listed([_version(each) for each in versions])}."
    else:
        yield "Which version of the model answered, and when, is not at hand."
    shown = teacher.few_shot or len(teacher.few_shot_ids)
    examples = (
        f"{pluralize(shown, 'human-coded training row')} as examples ({teacher.few_shot_choice})"
        if shown
        else "no example"
    )
    reason = " and asks for a reason before the label" if teacher.reasoning else ""
    if teacher.confidence:
        reason += " and for the teacher's confidence in it" if reason else " and asks for the teacher's confidence"
    together = f"; {pluralize(teacher.per_request, 'response')} shared a request" if teacher.per_request > 1 else ""
    prompt = inputs.prompts.get(teacher.called, "")
    hashed = f" (SHA-256 of the prompt without examples and response: {prompt[:_HASH]})" if prompt else ""
    yield f"The prompt states the codebook{hashed} and shows {examples}{reason}{together}."
    if teacher.votes > 1:
        yield _counted_votes(teacher)


def _counted_votes(teacher: AnyTeacher) -> str:
    ties = {
        "set_aside": "a response with a tie was set aside",
        "first_vote": "a tie was resolved by the earliest vote",
        "logprobs": "a tie was resolved by the probabilities of the tokens",
        "confidence": "a tie was resolved by the teacher's stated confidence",
    }[teacher.ties]
    return f"The label is the most frequent vote; {ties}."


def _existing_labels(inputs: MethodsInputs, teacher: ExistingLabelsSection) -> Iterator[str]:
    gate = inputs.report.gate
    source = next((each.source for each in gate.teachers if each.teacher == teacher.called), None) if gate else None
    model = f"the language model {plain(teacher.model)}" if teacher.model else "a language model"
    where = f"the table {plain(teacher.labels.name)}"
    if source:
        where += f" ({rows(source.rows)}, SHA-256 {source.sha256})"
    how = "one label per response"
    if teacher.votes:
        how = f"{pluralize(len(teacher.votes), 'vote')} per response"
    elif teacher.shares is not None:
        how = "a share of each label per response"
    yield (
        f"The labels of {model} existed already: {how} {_is(len(teacher.votes) or 1)} in {where}. No model was asked; "
        "the prompts and settings that led to these labels are not at hand."
    )
    if not teacher.model:
        yield "Which model gave them is not stated."
    if teacher.confidence:
        yield "The table states the probability of each label."
    if teacher.votes:
        yield _counted_votes(teacher)
    elif teacher.shares is not None:
        yield (
            "A label holds if its share is more than one half; a response with a share of one half was set aside."
            if inputs.project.task.kind == "multilabel"
            else "The label is the one with the largest share; a response with a tie was set aside."
        )


def _version(version: ModelVersion) -> str:
    name = plain(version.served_model) if version.served_model else "an unnamed model"
    mark = f", fingerprint {plain(version.fingerprint)}" if version.fingerprint else ""
    days = ""
    if version.first:
        days = f" on {version.first}" if version.first == version.last else f" from {version.first} to {version.last}"
    return f"{name}{mark} ({pluralize(version.answers, 'answer')}{days})"


def _synthetic(inputs: MethodsInputs) -> Iterator[str]:
    made, section = inputs.report.generation, inputs.project.generate
    if not made or not section:
        return
    temperatures = listed([setting(each) for each in section.temperature])
    yield (
        f"The teacher wrote {pluralize(made['written'], 'synthetic response')} of {count(made['asked_for'])} requested "
        f"(temperature {temperatures}); {count(made['kept'])} were kept."
    )
    if made.get("removed"):
        removed = ", ".join(f"{count(number)} {plain(reason)}" for reason, number in made["removed"].items())
        yield f"Removed were {removed}."
    coded = made.get("consistent") or {}
    if coded.get("coded"):
        yield (
            f"When the teacher coded the samples, {count(coded['consistent'])} of {count(coded['coded'])} received the "
            "label that they were written for."
        )


def _student(inputs: MethodsInputs) -> Iterator[str]:
    report, project = inputs.report, inputs.project
    section, log = project.student, report.run_log
    table = mixture_table(log, report.evaluation.counted)
    if table:
        names = {"human": "human codes", "teacher": "labels of the teacher", "synthetic": "synthetic responses"}
        sources = [f"{count(number)} {names.get(source, source)}" for source, number in table.rows_per_source.items()]
        yield f"The student was trained on {rows(table.rows)}: {listed(sources)} ({table_reference('training_rows')})."
    backbone = plain(section.backbone)
    if backbone == "minilm":
        backbone = f"all-MiniLM-L6-v2 {cite('reimers2019', 'wang2020')}"
    best: Mapping[str, Any] = log.stages.get("train", {}).get("best") or {}
    if section.kind == "frozen":
        yield f"A linear classifier was fitted on the embeddings of {backbone}, which was not trained."
    elif section.kind == "nano":
        tokens = log.stages.get("train", {}).get("nano", {}).get("tokens", 0)
        yield (
            f"The student has a vector for each of {count(tokens)} tokens, initialized from {backbone}, and a "
            "classifier with one hidden layer that reads the mean of a text's vectors. Both were trained together."
        )
        yield _loss(inputs)
    else:
        yield _fine_tuned(backbone, section, log.stages.get("train", {}).get("architecture"))
        yield _loss(inputs)
    if cut := log.stages.get("train", {}).get("vocabulary"):
        yield (
            f"Before training, its vocabulary was reduced from {count(cut['pieces_before'])} to {count(cut['pieces'])} "
            "tokens: those of the texts that it could be trained on, and frequent ones."
        )
    yield from _assistant(log.stages.get("train", {}).get("assistant"))
    longest = log.stages.get("mix", {}).get("max_tokens")
    if longest:
        yield f"The longest input has {pluralize(longest, 'token')}; longer ones are cut, the context first."
    trials = summarize_trials(report.trials, log)
    chosen = [
        f"{name.replace('_', ' ')} {setting(float(best[name]))}"
        for name in ("learning_rate", "batch_size", "epochs", "seed")
        if name in best
    ]
    if trials and chosen:
        method = f" (tree-structured Parzen estimator {cite('bergstra2011')})" if section.search.method == "tpe" else ""
        score = best.get("validation_macro_f1")
        yield (
            f"Of {pluralize(len(trials), 'trial')}{method}, the one with the highest macro-F1 on the validation rows "
            f"was selected: {', '.join(chosen)}, epoch {best.get('best_epoch', '')}"
            f"{f' (macro-F1 {figure(float(score))})' if score is not None else ''} ({table_reference('search')})."
        )
    yield from _smaller_students(inputs)
    yield from _prior_corrections(log.stages.get("train", {}).get("prior_correction") or ())


def _smaller_students(inputs: MethodsInputs) -> Iterator[str]:
    section, report = inputs.project.student, inputs.report
    if report.sizes:
        names = listed([size.name for size in report.sizes.sizes])
        yield (
            f"Students of several sizes were trained ({names}); the smallest that was not worse than the best by more "
            f"than {setting(report.sizes.margin)} κ, at the upper end of the paired 95 % interval on the validation "
            f"rows, is the one that was evaluated: {report.sizes.picked}."
        )
    if report.shrinking:
        small = report.shrinking
        yield (
            f"A smaller student of {pluralize(len(small['layers']), 'layer')} was distilled from it "
            f"{cite('hinton2015')}"
            f"{', and is the one that was evaluated' if section.shrink and section.shrink.export else ''}."
        )


def _prior_corrections(corrections: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The shares of labels before and after the correction of each student."""
    for each in corrections:
        of_size = each["student"] not in ("student", "smaller student") and not each["student"].startswith("assistant")
        name = "student" if of_size else plain(each["student"])
        size = f" ({plain(each['student'])})" if of_size else ""
        if each["shift"]:
            shares = [
                f"{plain(label)} {figure(each['before'][label])} before, {figure(each['after'][label])} after, "
                f"{figure(share)} human, constant {figure(each['shift'][label])}"
                for label, share in each["human"].items()
            ]
            yield (
                f"The label shares of the {name}{size} were corrected {cite('king2001', 'saerens2002')}: a constant "
                f"per label was added to its logits, so that its mean probabilities on {rows(each['rows'])} of the "
                f"validation split are the shares of the human codes, shrunk towards its own: {'; '.join(shares)}."
            )
        elif each["note"]:
            yield (
                f"The label shares of the {name}{size} were not corrected to those of the human codes: "
                f"{plain(each['note'])}."
            )


def _assistant(found: Mapping[str, Any] | None) -> Iterator[str]:
    if not found:
        return
    seeds = len(found["seeds"])
    subject, mean = ("Assistants", "mean ") if seeds > 1 else ("An assistant", "")
    yield (
        f"{subject}, {plain(found['backbone'])} fine-tuned on the same training set with {pluralize(seeds, 'seed')}, "
        f"gave the {mean}probabilities {cite('turc2019')} of {pluralize(found['texts'], 'text')}, coded or not; no "
        "validation or test row was among them."
    )
    yield from _prior_corrections(found.get("prior_correction") or ())


def _fine_tuned(backbone: str, section: StudentSection, architecture: str | None) -> str:
    if architecture == "bi-encoder":
        return (
            f"{backbone} was fine-tuned as a bi-encoder: it encodes the response apart from its question and "
            "reference answers, and a linear classifier reads both mean vectors, their absolute difference and "
            f"their product {cite('reimers2019', 'wolf2020')}."
        )
    adapters = f" with low-rank adapters {cite('hu2021')}" if section.adapters else ""
    return f"{backbone} was fine-tuned{adapters} with a linear classification head {cite('wolf2020')}."


def _loss(inputs: MethodsInputs) -> str:
    loss = inputs.project.student.loss
    targets = {
        "hard": "the labels of the rows",
        "soft": f"the shares of the teacher's votes {cite('hinton2015')}",
        "both": f"the labels of the rows and the shares of the teacher's votes {cite('hinton2015')}",
    }[loss.targets]
    if inputs.project.student.assistant:
        targets = f"the probabilities of an assistant {cite('hinton2015')}"
    more = []
    if loss.targets == "both":
        more.append(f"the latter with the weight {setting(loss.soft_weight)}")
    if loss.class_weights == "balanced":
        more.append("labels weighted by the inverse of their frequency")
    if loss.ordinal != "nominal":
        more.append(f"an ordinal loss ({loss.ordinal.replace('_', ' ')})")
    return f"The training targets were {', '.join([targets, *more])}."


def _decisions(inputs: MethodsInputs) -> Iterator[str]:
    evaluation = inputs.report.served
    calibration = evaluation.calibration
    if calibration.method == "none":
        yield "Probabilities were not calibrated."
    else:
        yield (
            f"Probabilities were calibrated by {calibration.method} {cite('guo2017')} on {rows(calibration.rows)} of "
            f"the validation split (temperature {figure(calibration.temperature)})."
        )
    if evaluation.thresholds:
        values = [f"{plain(name)} {figure(value)}" for name, value in evaluation.thresholds.values.items()]
        yield f"A label is assigned from its own probability, chosen on the validation rows: {listed(values)}."
    yield from _rule(inputs)


def _rule(inputs: MethodsInputs) -> Iterator[str]:
    review = inputs.report.served.review
    always = [
        *(["blank responses"] if review.rule.blank else []),
        *(["truncated responses"] if review.rule.truncated else []),
        *(
            [f"responses of which more than {percent(review.rule.max_unknown_share)} is unknown to the student"]
            if review.rule.max_unknown_share < 1
            else []
        ),
    ]
    if review.rule.min_letters:
        always.append(
            f"responses with fewer than {percent(review.rule.min_letters)} letters of the scripts of the training "
            f"texts ({listed([plain(name) for name in review.rule.scripts])}) among their visible characters"
        )
    if review.questions and review.questions.reviewed:
        always.append(
            f"responses to another question than the {count(review.questions.questions)} of the validation rows"
        )
    if review.test.novelty:
        always.append("responses unlike the training texts")
    if always:
        yield f"A person codes {listed(always)}."
    yield from novelty_sentences(inputs.report, inputs.project)
    if review.aim is None:
        yield "No threshold on the probability was chosen."
    elif review.aim.aim == "at_most_wrong":
        yield from guarantee_sentences(inputs.report)
    else:
        yield _aim(review.aim.aim, review.aim.at_least, review.aim.share)
        if review.met is False:
            yield "The validation rows could not meet this aim."
    outcome = review.test
    yield (
        f"On the test rows the rule accepts {count(outcome.accepted)} of {rows(outcome.rows)} "
        f"({percent_estimate(outcome.share_accepted)})"
        f"{f', with an accuracy of {estimate(outcome.agreement.accuracy)}' if outcome.agreement else ''} "
        f"({table_reference('decision_rule')})."
    )


def _aim(aim: str, at_least: float | None, share: float | None) -> str:
    if aim == "keep_kappa" and at_least is not None:
        return (
            "Thresholds on the calibrated probability were chosen on the validation rows such that the lower limit of "
            f"the interval of \u03ba among accepted rows reaches {setting(at_least)}; shares of the most confident "
            f"rows were tested from few to many until the first failure {cite('angelopoulos2021')}."
        )
    if aim == "at_most_to_people" and share is not None:
        return (
            "Thresholds on the calibrated probability were chosen on the validation rows such that at most "
            f"{percent(share)} of the responses go to people."
        )
    if aim == "least_probability" and at_least is not None:
        return f"Labels are accepted from a calibrated probability of {setting(at_least)} on."
    return f"Thresholds were chosen on the validation rows for the aim {plain(aim)}."


def _evaluation(inputs: MethodsInputs) -> Iterator[str]:
    report = inputs.report
    evaluation = report.served
    name, model = next(iter(report.columns.items()))
    yield (
        f"Agreement with the human codes of {rows(evaluation.rows)} that chose nothing is {_KAPPA[evaluation.kind]}, "
        "accuracy, precision, recall and F1."
    )
    yield (
        "Confidence intervals are of 95\u202f%: for shares of independent rows those of Clopper and Pearson "
        f"{cite('clopper1934')}, else percentiles of {count(model.resamples)} resamples of a Bayesian bootstrap "
        f"{cite('rubin1981')} in which one additional row is weighed in, coded wrongly for the lower limit and "
        "correctly for the upper one."
    )
    if model.groups:
        yield f"Whole groups of rows (learners) were resampled, of which the test split has {count(model.groups)}."
    else:
        yield "Rows were treated as independent."
    yield (
        f"The {name} has a \u03ba of {estimate(model.kappa)} and an accuracy of {percent_estimate(model.accuracy)} "
        f"({', '.join(table_reference(each) for each in ('agreement', 'per_label', 'confusion'))})."
    )
    if teacher := evaluation.agreement.get("teacher"):
        yield f"The teacher, on the {rows(teacher.rows)} that it coded, has a \u03ba of {estimate(teacher.kappa)}."
    if evaluation.comparisons:
        mcnemar = any(each.mcnemar for each in evaluation.comparisons)
        test = f"; McNemar's test {cite('mcnemar1947')} is the mid-p one" if mcnemar else ""
        yield (
            "Codings were compared with one another on the same rows and resamples"
            f"{test} ({table_reference('comparisons')})."
        )
    if evaluation.subgroups:
        columns = dict.fromkeys(plain(table.column) for table in evaluation.subgroups)
        smallest = min(table.smallest for table in evaluation.subgroups)
        yield (
            f"Agreement was also computed by {listed([*columns])}, for groups of at least {rows(smallest)} "
            f"({table_reference('subgroups')})."
        )
    if found := evaluation.prevalence:
        yield (
            f"Shares of the labels among {pluralize(found.rows, 'response')} of {plain(found.file)} were "
            f"{'corrected for the errors of the student' if found.corrected else 'not corrected'} "
            f"({plain(found.method)}, {cite('rogan1978')}; {table_reference('label_shares')})."
        )


def _export(inputs: MethodsInputs) -> Iterator[str]:
    fidelity, bundle = inputs.report.fidelity, inputs.report.bundle
    if fidelity is None:
        return
    quantized = f", quantized to 8-bit integers {cite('jacob2018')}" if fidelity.served == "int8" else ""
    size = f" of {count(bundle.bytes)} bytes" if bundle else ""
    yield f"The student was exported as an ONNX graph{size}{quantized}."
    if figures := fidelity.figures:
        yield (
            f"It gives {count(figures.change.flips)} of {rows(figures.change.rows)} of the test split another label "
            f"than the student in PyTorch ({table_reference('fidelity')}); all figures of agreement are those of the "
            "exported graph."
        )


def _preregistration(inputs: MethodsInputs) -> Iterator[str]:
    plan = inputs.plan
    if plan is None:
        yield "The analysis was not preregistered."
        return
    yield f"The analysis was preregistered on {plan.date[:10]} in a file with the SHA-256 {plan.sha256}."
    if not plan.before_evaluation:
        yield "The test rows had been evaluated before."
    if plan.kept:
        yield f"Unchanged since preregistration: {listed(list(plan.kept))}."
    yield f"Changed afterwards: {listed(list(plan.changed))}." if plan.changed else "Nothing was changed afterwards."


def _software(inputs: MethodsInputs) -> Iterator[str]:
    log = inputs.report.run_log
    used: dict[str, dict[str, list[str]]] = {}
    for stage, entry in log.stages.items():
        if stage != "report":
            for tool, number in entry.get("versions", {}).items():
                used.setdefault(tool, {}).setdefault(number, []).append(stage)
    if not used and log.versions:
        used = {tool: {number: []} for tool, number in log.versions.items()}
    tools = []
    for tool, numbers in used.items():
        several = len(numbers) > 1
        each = [f"{plain(number)}{f' ({listed(stages)})' if several else ''}" for number, stages in numbers.items()]
        tools.append(f"{plain(tool)} {listed(each)}")
    if tools:
        yield f"Versions: {'; '.join(tools)}."


def _not_measured(inputs: MethodsInputs) -> Iterator[str]:
    report = inputs.report
    lacking = [
        *([] if report.served.human_agreement else ["agreement between human coders on the test rows"]),
        *([] if report.served.subgroups else ["agreement in groups of learners"]),
        *([] if report.is_served else ["agreement of the exported model"]),
        *([] if "teacher" in report.served.agreement else ["agreement of a language model on the test rows"]),
    ]
    if lacking:
        yield f"Not measured: {'; '.join(lacking)}."


def _times(number: int) -> str:
    return "once" if number == 1 else f"{count(number)} times"


def _number(number: int, noun: str) -> str:
    return f"No {noun}" if number == 0 else pluralize(number, noun)


def _is(number: int) -> str:
    return "is" if number in (0, 1) else "are"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _has(number: int) -> str:
    return "has" if number == 1 else "have"
