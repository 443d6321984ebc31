"""If a graph gives the same scores in every batch, or runs on a GPU, rows share batches and still fail alone."""

import logging
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill_serve import BundleError, Scorer, ScoringFailed, SelfCheckFailed
from edgedistill_serve.scoring.batching import Batching, Outputs
from edgedistill_serve.scoring.session import Session

TEXTS = [" ".join(["why", "is", "this", "the", "answer"][: number % 5 + 1]) + f" {number}" for number in range(150)]


class Counting(Session):
    """A real graph that remembers its batches."""

    def __init__(self, model, device="cpu"):
        super().__init__(model)
        self.device, self.batches, self.lengths = device, [], []

    def run(self, rows, length=0):
        """Remember, and score."""
        self.batches.append([len(row.ids) for row in rows])
        self.lengths.append(length)
        return super().run(rows, length)


class Unpadded(Session):
    """A real graph that is never fed with padding."""

    def run(self, rows, length=0):
        """Score rows one by one."""
        return Outputs(np.concatenate([super(Unpadded, self).run([row]).logits for row in rows]))


@pytest.fixture
def opened():
    """A way to open graphs, as if there were a GPU, and the graphs that were opened."""
    graphs = []

    def open_graph(model, device):
        graphs.append(Counting(model, device))
        return graphs[-1]

    return open_graph, graphs


@pytest.fixture(scope="module")
def fp32(bundle):
    return replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, precision="fp32", batch_invariant=True))


def test_a_graph_whose_scores_change_in_batches_scores_single_rows(bundle, opened):
    open_graph, graphs = opened
    Scorer(bundle, score_cache=0, open_graph=open_graph).score(TEXTS)
    assert {len(batch) for batch in graphs[-1].batches} == {1}


def test_rows_of_like_length_share_batches_within_the_budget(fp32, opened):
    open_graph, graphs = opened
    scorer = Scorer(fp32, score_cache=0, open_graph=open_graph)
    graphs[-1].batches.clear()
    found = scorer.score(TEXTS)
    batches = graphs[-1].batches
    assert sum(map(len, batches)) == len(TEXTS)
    assert len(batches) < 10
    assert all(len(batch) * max(batch) <= 512 for batch in batches)
    assert sum(map(sum, batches)) / sum(len(batch) * max(batch) for batch in batches) > 0.85
    assert found == [scorer.score([text])[0] for text in TEXTS]


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=80))
def test_a_response_has_the_same_bits_in_every_batch(fp32, rows):
    scorer = Scorer(fp32, score_cache=0, threads=1)
    assert scorer.score(rows) == [scorer.score_one({"response": text}) for text in rows]


def test_if_a_batch_changes_a_score_on_this_cpu_each_response_is_scored_alone(fp32, opened):
    """As on a processor that sums in another order than the one on which the bundle was made."""

    class Moving(Counting):
        def run(self, rows, length=0):
            return Outputs(super().run(rows, length).logits * (1 if len(rows) == 1 else 1 + 1e-15))

    graphs = []
    scorer = Scorer(
        fp32, score_cache=0, open_graph=lambda model, device: graphs.append(Moving(model, device)) or graphs[-1]
    )
    assert scorer.notes == ("batching changes scores on this CPU; each response is scored alone",)
    graphs[-1].batches.clear()
    scorer.score(TEXTS[:20])
    assert {len(batch) for batch in graphs[-1].batches} == {1}


def test_every_row_is_padded_to_a_multiple_of_four_tokens_alone_too(fp32, opened):
    open_graph, graphs = opened
    scorer = Scorer(fp32, score_cache=0, open_graph=open_graph)
    graphs[-1].lengths.clear()
    scorer.score(["why", "why is this the answer"])
    scorer.score_one({"response": "why is"})
    assert graphs[-1].lengths == [4, 8, 4]


def test_no_row_is_padded_beyond_what_the_graph_reads():
    assert [
        Batching(512, pad_to_multiple_of=4, max_length=126).padded_length(length) for length in (1, 124, 125, 126)
    ] == [4, 124, 126, 126]


def test_a_graph_that_padding_harms_gets_rows_of_one_length_without_any(fp32):
    """As one that reads a sequence's last token."""

    class ReadsTheLast(Counting):
        def run(self, rows, length=0):
            return Outputs(super().run(rows, length).logits + 0.001 * (length > len(rows[0].ids)))

    graphs = []
    scorer = Scorer(
        fp32, score_cache=0, open_graph=lambda model, device: graphs.append(ReadsTheLast(model, device)) or graphs[-1]
    )
    graphs[-1].batches.clear()
    found = scorer.score(TEXTS)
    assert scorer.notes == ()
    assert all(len(set(batch)) == 1 for batch in graphs[-1].batches)
    assert any(len(batch) > 1 for batch in graphs[-1].batches)
    assert found == Scorer(fp32, score_cache=0, open_graph=Unpadded).score(TEXTS)


def test_a_poisonous_row_of_a_batch_fails_alone(fp32):
    results = Scorer(fp32, score_cache=0).score_each([*TEXTS[:20], "poisonous", *TEXTS[20:40]])
    assert [place for place, result in enumerate(results) if isinstance(result, ScoringFailed)] == [20]


def test_on_a_gpu_the_fp32_graph_serves_in_larger_batches(bundle, opened):
    open_graph, graphs = opened
    scorer = Scorer(bundle, score_cache=0, gpu=True, open_graph=open_graph)
    assert (scorer.device, scorer.precision, scorer.notes, graphs[-1].device) == ("cuda", "fp32", (), "cuda")
    graphs[-1].batches.clear()
    scorer.score(TEXTS)
    assert [len(batch) for batch in graphs[-1].batches] == [150]


def test_without_a_gpu_the_cpu_is_used_with_one_note(bundle, caplog):
    def open_graph(model, device):
        if device == "cuda":
            raise BundleError("onnxruntime finds no usable CUDA device", where=model.name)
        return Session(model)

    with caplog.at_level(logging.WARNING):
        scorer = Scorer(bundle, gpu=True, open_graph=open_graph)
    assert (scorer.device, scorer.precision) == ("cpu", "int8")
    (note,) = scorer.notes
    assert note.startswith("the fp32 graph fails on this GPU: model.onnx: onnxruntime finds no usable CUDA device; ")
    assert note.endswith("int8 on the CPU is used instead")
    assert [record.message for record in caplog.records] == [f"praise: {note}"]


def test_no_gpu_is_requested_from_an_onnxruntime_without_cuda(parts):
    with pytest.raises(BundleError, match="CUDA"):
        Session(parts / "model.onnx", "cuda")


def test_a_gpu_that_computes_other_scores_is_not_used(bundle):
    class Wrong(Session):
        def run(self, rows, length=0):
            return Outputs(-super().run(rows, length).logits)

    scorer = Scorer(bundle, gpu=True, open_graph=lambda model, device: (Wrong if device == "cuda" else Session)(model))
    assert (scorer.device, scorer.precision) == ("cpu", "int8")
    assert "on this GPU" in scorer.notes[0]
    with pytest.raises(SelfCheckFailed):
        Scorer(bundle, gpu=True, open_graph=lambda model, device: Wrong(model))
