"""What can be done about open questions other than asking them right away.

Announce        tell what they will cost, then let them be asked
EstimateOnly    tell what they will cost, and stop
ToFile          write them to files for somebody else's Batch API, and stop
FromFile        take their answers from results files
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedistill.errors import AnswersMissing, DataError, Paused, RunError
from edgedistill.teacher.batch_files import Journal, in_files, merge, read_results, write_whole
from edgedistill.teacher.codebook import AnswerFormat
from edgedistill.teacher.runner import Round, unanswered
from edgedistill.teacher.spending import Estimate, Usage, estimate, sample_places


def estimate_of(given: Round[Any]) -> Estimate:
    """Return what a round's questions will take, from a few of their prompts."""
    questions = given.questions
    sample = [questions[place].request_in(AnswerFormat.SCHEMA) for place in sample_places(len(questions))]
    return estimate(sample, len(questions), given.budget)


def _require_no_batch(given: Round[Any]) -> None:
    """Stop before questions are paid for twice: once in a batch that was submitted, and once more."""
    journal = Journal(given.cache.folder)
    for batch, requests in journal.pending(given.section.base_url).items():
        keys = {question.request_in(form).key() for question in given.questions for form in AnswerFormat}
        if batch.state != "planned" and (waiting := len(keys & requests.keys())):
            raise RunError(
                f"{waiting:,} of these requests wait in the batch {batch.batch_id or batch.name}",
                where=given.section.base_url,
                hint="Go on with --batch, which takes its results; or cancel it at the provider and remove "
                f"{journal.requests_file(batch.name)}.",
            )


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell what the questions will cost before the first of them is asked.

    Attributes:
        say: Is told; not called where nothing is to be asked.
    """

    say: Callable[[Estimate], None]

    def prepare(self, given: Round[Any]) -> None:
        """Tell the estimate.

        Raises:
            RunError: A batch that was submitted holds some of the questions.
        """
        if given.questions:
            _require_no_batch(given)
            self.say(estimate_of(given))


@dataclass(frozen=True, slots=True)
class EstimateOnly:
    """Tell what the questions will cost, and stop.

    Attributes:
        teacher: The teacher's name, where there are several; else empty.
    """

    teacher: str = ""

    def prepare(self, given: Round[Any]) -> None:
        """Stop with the estimate.

        Raises:
            Paused: Always.
        """
        found = estimate_of(given)
        told = f"{self.teacher}: {found.told}" if self.teacher else found.told
        raise Paused(told, {"teacher": self.teacher, "estimate": asdict(found)})


@dataclass(frozen=True, slots=True)
class ToFile:
    """Write the questions to files in the format of the Batch API, and stop.

    Attributes:
        file: The file; where the Batch API's limits ask for several, the others are ``NAME-2.SUFFIX`` and so on.
    """

    file: Path

    def prepare(self, given: Round[Any]) -> None:
        """Write the files.

        Raises:
            Paused: There are questions, and they are written.
            DataError: A file cannot be written.
            RunError: A batch that was submitted holds some of the questions.
        """
        if not given.questions:
            return
        _require_no_batch(given)
        requests = (question.request_in(AnswerFormat.SCHEMA) for question in given.questions)
        files, count = [], 0
        for number, together in enumerate(in_files(requests, "max_tokens"), 1):
            file = self.file if number == 1 else self.file.with_stem(f"{self.file.stem}-{number}")
            write_whole(file, b"".join(line for _, line in together))
            files.append(str(file))
            count += len(together)
        raise Paused(
            f"wrote {count:,} requests to {', '.join(files)}",
            {"files": files, "requests": count, "estimate": asdict(estimate_of(given))},
            hint="Take the results back with --batch-in.",
        )


@dataclass(frozen=True, slots=True)
class FromFile:
    """Take the answers from results files of the Batch API; nothing is asked.

    Attributes:
        files: The files.
        say: Is told what became of their lines.
    """

    files: Sequence[Path]
    say: Callable[[str], None]

    def prepare(self, given: Round[Any]) -> Usage:
        """Write the files' answers to the cache.

        Returns:
            What they took.

        Raises:
            DataError: A file cannot be read.
            AnswersMissing: Questions are left without an answer.
        """
        usage = given.nothing
        for file in self.files:
            usage += self._taken(given, file)
        if left := len(unanswered(given)):
            raise AnswersMissing(
                f"{left} of {len(given.questions)} questions have no answer yet",
                where=", ".join(map(str, self.files)),
                hint="Write a file of just these with --batch-out, or run without --batch-in to ask the endpoint.",
            )
        return usage

    def _taken(self, given: Round[Any], file: Path) -> Usage:
        try:
            lines = file.read_bytes().splitlines()
        except OSError as error:
            raise DataError(f"the file cannot be read: {error.strerror}", where=str(file)) from error
        asked = {
            request.key(): request.content()
            for question in given.questions
            for request in map(question.request_in, AnswerFormat)
        }
        kept = given.cache.keys()
        results = read_results(lines, asked.keys() | kept)
        merged = merge(given, asked, [result for result in results.found if result.key not in kept])
        present = sum(result.key in kept for result in results.found)
        parts = [f"{merged.answers} answers taken", f"{present} were there", f"{merged.failures} cannot be used"]
        self.say(f"{file}: {', '.join(parts)}" + (f"; {results.told}" if results.told else ""))
        return merged.usage
