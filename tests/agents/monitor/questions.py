"""Questions whose embeddings cost nothing: a few topics, around which their questions lie."""

from __future__ import annotations

import numpy as np

from agents.monitor.traffic import Questions

TOPICS, NEW, OF_EACH = 40, 5, 30


def questions() -> Questions:
    random = np.random.default_rng(0)
    centres = random.normal(size=(TOPICS + NEW, 24))
    topic = np.repeat(np.arange(TOPICS + NEW), OF_EACH)
    vectors = centres[topic] + 0.6 * random.normal(size=(len(topic), 24))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return Questions(vectors=units.astype(np.float32), topic=topic, new_topics=NEW)
