"""A queue whose graph can be paused, observed and made to fail."""

from threading import Event

from edgedistill_serve import Scorer
from edgedistill_serve.scoring.session import Session
from edgedistill_serve.server.queue.scoring_queue import ScoringQueue


class Graph(Session):
    """A real graph that can be paused, counts its rows, and raises a given error."""

    def __init__(self, model, device="cpu"):
        super().__init__(model, device)
        self.open = Event()
        self.open.set()
        self.begun = Event()
        self.rows = []
        self.fault = None

    def run(self, rows, length=0):
        """Wait, count, raise the given error, then score."""
        self.begun.set()
        assert self.open.wait(30)
        self.rows.append(len(rows))
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        return super().run(rows, length)


class Held:
    """A queue with one scorer and access to its graph."""

    def __init__(self, bundle, *, limit=100, threads=1, score_cache=0, observe=lambda _: None):
        self.graphs = []
        self.scorer = Scorer(bundle, score_cache=score_cache, open_graph=self._graph)
        self.graph = self.graphs[-1]
        self.graph.rows.clear()
        self.graph.begun.clear()
        self.queue = ScoringQueue(limit=limit, threads=threads, observe=observe)

    def _graph(self, model, device):
        self.graphs.append(Graph(model, device))
        return self.graphs[-1]

    def ask(self, *texts, **given):
        """Submit texts."""
        return self.queue.submit(self.scorer, [{"response": text} for text in texts], **given)

    def hold(self):
        """Let the only thread start with a row and pause there."""
        self.graph.begun.clear()
        self.graph.open.clear()
        (busy,) = self.ask("the answer is held up")
        assert self.graph.begun.wait(30)
        return busy


def alone(bundle, *texts):
    """Score texts without a queue."""
    return Scorer(bundle, score_cache=0, threads=1).score(texts)
