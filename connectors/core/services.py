"""The name of a system in metrics, messages and dead letters, and on the status page.

Each system declares its own `Service` in its own folder; `dataflow.clients` lists them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Service:
    """One system, as metrics, stalls, dead letters and the status page name it.

    Attributes:
        name: The label in metrics and the key of its stalls, such as `dead-letters`.
        title: The name in messages, such as `the RAG service`.
        stage_key: The key in `stages` of `/status.json`; empty: `name`.
        activity: What the stream does with it, in messages about the slowest stage; empty: `title`.
        reasons: The reasons of the dead letters that it causes.
        counter: The key, in `gibsey_embedder.status.metric_samples`, of the counter of what it
            accepted; empty: none.
        while_away: What happens to pages while it is unavailable, if the stream does not wait.
    """

    name: str
    title: str
    stage_key: str = ""
    activity: str = ""
    reasons: tuple[str, ...] = ()
    counter: str = ""
    while_away: str = ""

    @property
    def stage(self) -> str:
        """The key of its stage in `/status.json`."""
        return self.stage_key or self.name
