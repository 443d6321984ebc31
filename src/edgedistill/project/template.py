"""The template of a new project folder: a commented project file and a small human.csv."""

from pathlib import Path

from edgedistill.errors import ProjectFileError

PROJECT = """\
# An EdgeDistill project. Run it with: edgedistill run {name}/project.yaml
# Paths are relative to this file. Only name, task and data.human are required. The other settings show the defaults
# unless a comment says otherwise. Commented settings are off; uncomment to use them.
name: {name}

task:
  kind: nominal                 # or ordinal: labels from low to high; or multilabel: any number of labels
  instructions: >
    A learner was asked a question. Code what the learner's answer shows.
  labels:                       # the codebook; the column label of human.csv has these names
    - {{name: correct, definition: The answer names the cause.}}
    - {{name: incorrect, definition: The answer names no cause or a wrong one.}}
  inputs: [response]            # or more: [question, reference_answer, rubric, response]
  redact: false                 # or true, or {{ids: ["S[0-9]{{6}}"]}}: replaces e-mails, phones, URLs and these ids

data:
  human: human.csv              # columns id, response, label; optional: question, reference_answer, rubric, split
  # unlabelled: responses.csv   # columns id, response; the teacher codes these
  # reviewed: reviewed.csv      # codes from `edgedistill review merge`: train or validation rows
  # group_by: student_id        # a column of both files; no group is in two splits
  # questions: held_out         # validation and test rows answer questions without train rows
  # question_by: item           # the column that names each row's question (default: question and reference answer)
  split: {{train: 0.6, validation: 0.2, test: 0.2, seed: 0}}   # a column split in human.csv takes precedence
  max_characters: 10000         # longer responses are set aside

# teacher:                      # without a teacher, the student is trained on human codes only
#   base_url: https://api.openai.com/v1      # any OpenAI-compatible endpoint
#   model: gpt-4o               # required here
#   api_key_env: OPENAI_API_KEY # environment variable with the key; null: none (default: OpenAI's own only)
#   votes: 3                    # answers per response
#   temperature: 0.7
#   few_shot: 0                 # examples in the prompt, from human train rows only
#   few_shot_choice: balanced   # or similar; or fixed, with few_shot_ids: [r1, r2]
#   reasoning: false            # true: one sentence of reasoning before the label
#   per_request: 1              # responses per request
#   logprobs: false             # true: soft labels from the endpoint's token probabilities
#   confidence: false           # true: the teacher states with each label how sure it is; mix.min_confidence uses it
#   concurrency: 16
#   tries: 6                    # attempts per answer, then the response is set aside
#   timeout_seconds: 60
#   max_output_tokens: 300
#   ties: set_aside             # or first_vote, logprobs, confidence
#   cache: teacher-cache        # answers are stored here and never paid for twice
#   prices: {{input_usd_per_million: 2.5, output_usd_per_million: 10}}    # no default: tokens only
#   budget: {{usd: 5}}            # no default; or {{tokens: 2_000_000}}: a hard cap
#   gate: {{metric: kappa, at_least: 0.6, least_rows: 30}}   # lower end of the 95 % interval on validation rows

# teacher: {{labels: gpt4.csv, model: gpt-4-0613}}   # or labels that exist already, by id; nothing is asked
#   # columns id and label; or `votes: [run1, run2, run3]`; or `shares: share_` for a column share_LABEL per label

# generate:                     # synthetic responses written by the teacher; mix.synthetic_share sets how many are used
#   per_label: 200              # at each temperature
#   temperature: 0.7            # or a list
#   samples_per_call: 10
#   examples_per_prompt: 3      # human train rows with the label
#   variation: none             # or persona, length, both
#   max_output_tokens: 2000
#   near_duplicate: 0.8         # trigram similarity from which texts count as duplicates
#   regrade_votes: 1            # votes of the teacher on each sample
#   keep: all                   # or consistent: only samples coded as intended

mix: {{human: all, teacher: all, synthetic_share: 0.0, min_consistency: 0.0, seed: 0}}   # all, a number of rows, or 0
# mix: {{size: 1000, shares: {{human: 0.25, teacher: 0.5, synthetic: 0.25}}, balance: per_label}}   # or shares

student:
  backbone: minilm              # or a name of `edgedistill backbones list`, a folder, or a name on the Hugging Face Hub
  # max_tokens: 128            # longest input; default: from the lengths of the training rows
  preset: standard              # or quick, thorough: epochs and learning rate follow from rows and backbone
  # assistant: mpnet           # a larger model, trained first, whose probabilities for all texts the student learns
  # search: {{learning_rate: [5e-5, 1e-4], batch_size: [16], epochs: [4, 8]}}   # or these; validation rows select
  seeds: [0]

evaluation:
  calibrate: true               # temperature scaling on validation rows; labels do not change
  # positive: correct           # the label whose precision, recall and F1 are reported
  coders: []                    # columns of human.csv with individual coders' codes, for inter-coder agreement
  alt_test_epsilon: 0.15        # three or more coders: advantage of the machine; 0.2 for experts, 0.1 for crowd workers
  subgroups: []                 # columns of human.csv; agreement is reported for each of their values
  smallest_subgroup: 20         # subgroups with fewer test rows are not reported
  # population: term2.csv       # columns id, response; label prevalence is estimated

review: {{aim: least_probability, at_least: 0.7}}   # which responses people review: those below this probability; or
# review: {{aim: at_most_wrong, share: 0.05, confidence: 0.95}}
#   # of the accepted responses at most 5 % differ from the human code; per_label: true, groups: COLUMN: in each
# review: {{aim: keep_kappa, at_least: 0.75}}
# review: {{aim: at_most_to_people, share: 0.15}}
# review: {{max_unknown_share: 0.5, new_questions: review}}   # responses that cannot be read; questions that are new
# review: {{novelty: {{false_alarms: 0.05}}}}      # responses unlike the training texts; null: not measured

export:
  precision: int8               # or fp32
  vocabulary: full              # cut: drop tokens that no text here, or a single learner, uses, for a smaller file
  golden: written               # rows of the self-check; validation: real responses, for every reader of the bundle
  max_flip_rate: 0.01           # with more label flips, fp32 is served and the vocabulary stays full

report:
  examples: 0                   # number of wrongly coded test responses shown in report.html with their text
  # study: runs/mine/ratio      # no default; a study whose curve is shown

# track: mlflow                 # or wandb: log settings, epochs, agreement and hashes there, never texts
"""

HUMAN = """\
id,response,label
r1,Replace these rows with your own human-coded responses,correct
r2,A few hundred rows are a good start,incorrect
"""


def write_template(folder: Path) -> tuple[Path, ...]:
    """Write a new project folder.

    Args:
        folder: The folder to create; its last part becomes the project's name.

    Returns:
        The files written.

    Raises:
        ProjectFileError: The folder is not empty or cannot be written, or its name is not a valid project name.
    """
    require_new_folder(folder)
    name = folder.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = {folder / "project.yaml": PROJECT.format(name=name), folder / "human.csv": HUMAN}
        for path, text in files.items():
            path.write_text(text, "utf-8")
    except OSError as error:
        raise ProjectFileError(f"cannot be written ({error.strerror})", where=str(folder)) from None
    return tuple(files)


def require_new_folder(folder: Path) -> None:
    """Check that a project can be written to a folder: it has a valid name, and does not exist or is empty.

    Raises:
        ProjectFileError: It cannot.
    """
    name = folder.name
    if (
        not name
        or not all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in name)
        or name[0] in "._-"
    ):
        raise ProjectFileError(
            f"{name!r} is not a valid project name",
            hint="Use letters, digits, dots, dashes and underscores; start with a letter or digit.",
        )
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ProjectFileError("already exists", where=str(folder), hint="Choose another name.")
    except OSError as error:
        raise ProjectFileError(f"cannot be read ({error.strerror})", where=str(folder)) from None
