"""A new project folder: a commented project file and two small files that it reads."""

from pathlib import Path

from edgedistill.errors import ProjectFileError

PROJECT = """\
# An EdgeDistill project. Run it with: edgedistill run {name}/project.yaml
# Paths are relative to this file. Only name, task and data.human are required; what else stands here is the default
# unless a comment says otherwise. Lines that begin with a # are left out.
name: {name}

task:
  kind: nominal                 # or ordinal: labels from low to high; or multilabel: any number of labels holds
  instructions: >
    A learner was asked a question. Code what the learner's answer shows.
  labels:                       # the codebook: these names stand in the column label of human.csv
    - {{name: correct, definition: The answer names the cause.}}
    - {{name: incorrect, definition: The answer names no cause or a wrong one.}}
  inputs: [response]            # or [question, response], [question, reference_answer, response]
  redact: false                 # or true, or {{ids: ["S[0-9]{{6}}"]}}: e-mail, phone, URL and these ids are replaced

data:
  human: human.csv              # columns id, response, label; question, reference_answer, split where there are any
  # unlabelled: responses.csv   # columns id, response; the teacher codes these
  # reviewed: reviewed.csv      # codes from `edgedistill review merge`: train rows
  # group_by: student_id        # a column of both files; its groups never straddle two splits
  split: {{train: 0.6, validation: 0.2, test: 0.2, seed: 0}}   # a column split in human.csv wins
  max_characters: 10000         # longer responses are set aside

# teacher:                      # without a teacher, the student learns from human codes alone
#   base_url: https://api.openai.com/v1      # any OpenAI-compatible endpoint
#   model: gpt-4o               # required here
#   api_key_env: OPENAI_API_KEY # the environment variable that holds the key; null: no key
#   votes: 3                    # answers per response
#   temperature: 0.7
#   few_shot: 0                 # coded examples in the prompt, from human train rows only
#   few_shot_choice: balanced   # or similar; or fixed, with few_shot_ids: [r1, r2]
#   reasoning: false            # true: a reason in one sentence before the label
#   per_request: 1              # responses in one request
#   logprobs: false             # true: soft labels from the endpoint's token probabilities
#   concurrency: 16
#   tries: 6                    # per answer, then the response is set aside
#   timeout_seconds: 60
#   max_output_tokens: 300
#   ties: set_aside             # or first_vote, or logprobs
#   cache: teacher-cache        # every answer is kept here and never paid twice
#   prices: {{input_usd_per_million: 2.5, output_usd_per_million: 10}}    # no default: without prices, tokens only
#   budget: {{usd: 5}}            # no default; or {{tokens: 2_000_000}}: a hard cap
#   gate: {{metric: kappa, at_least: 0.6}}   # the 95 % interval's lower end on validation rows must reach this

# generate:                     # synthetic responses that the teacher writes; the share below says how many are used
#   per_label: 200              # at each temperature
#   temperature: 0.7            # or a list
#   samples_per_call: 10
#   examples_per_prompt: 3      # human train rows of the label
#   variation: none             # or persona, length, both
#   max_output_tokens: 2000
#   near_duplicate: 0.8         # texts that share so much of their character trigrams count as one
#   regrade_votes: 1            # how often the teacher codes each sample
#   keep: all                   # or consistent: only what the teacher codes as intended

mix: {{human: all, teacher: all, synthetic_share: 0.0, min_consistency: 0.0, seed: 0}}   # all, a number of rows, or 0
# mix: {{size: 1000, shares: {{human: 0.25, teacher: 0.5, synthetic: 0.25}}, balance: per_label}}   # or shares

student:
  backbone: minilm              # or a folder, or a name on the Hugging Face Hub
  max_tokens: 128
  search: {{learning_rate: [5e-5], batch_size: [16], epochs: [4]}}   # every combination, judged on validation rows
  # a few hundred rows of a hard codebook want more: learning_rate: [1e-4], epochs: [15]
  seeds: [0]

evaluation:
  calibrate: true               # a temperature from validation rows; labels stay as they are
  # positive: correct           # the label whose precision, recall and F1 are told
  coders: []                    # columns of human.csv: codes of single coders, for the human ceiling
  subgroups: []                 # columns of human.csv: agreement in each of their groups
  smallest_subgroup: 20         # test rows below which a group has no figures
  # population: term2.csv       # columns id, response: whose shares of labels are estimated

# review: {{aim: keep_kappa, at_least: 0.75}}        # which scores people look at; no default
# review: {{aim: at_most_to_people, share: 0.15}}

export:
  precision: int8               # or fp32
  vocabulary: full              # cut: leave out pieces that no text here needs, which makes the file smaller
  max_flip_rate: 0.01           # more flipped labels than this: fp32 is served, the vocabulary left full

report:
  examples: 0                   # wrongly coded test responses that report.html shows with what was written
  # study: runs/mine/ratio      # no default: a study whose curve is shown
"""

HUMAN = """\
id,response,label
r1,Replace these rows with your own human-coded responses,correct
r2,A few hundred rows are a good beginning,incorrect
"""


def write_template(folder: Path) -> tuple[Path, ...]:
    """Write a new project folder.

    Args:
        folder: The folder to make; its last part becomes the project's name.

    Returns:
        The files written.

    Raises:
        ProjectFileError: The folder exists and is not empty, cannot be written, or its name cannot be a project's.
    """
    name = folder.name
    if (
        not name
        or not all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in name)
        or name[0] in "._-"
    ):
        raise ProjectFileError(
            f"{name!r} cannot be a project's name",
            hint="Use letters, digits, dots and dashes, a letter or digit first.",
        )
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ProjectFileError("is there already", where=str(folder), hint="Give another name.")
        folder.mkdir(parents=True, exist_ok=True)
        files = {folder / "project.yaml": PROJECT.format(name=name), folder / "human.csv": HUMAN}
        for path, text in files.items():
            path.write_text(text, "utf-8")
    except OSError as error:
        raise ProjectFileError(f"cannot be written ({error.strerror})", where=str(folder)) from None
    return tuple(files)
