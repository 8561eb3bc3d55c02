"""Job descriptions and bid texts: sentences chosen by chance and by what is true of the job or the bid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Formatter

import numpy as np
from numpy.typing import NDArray

from bid_assets.simulation import phrases
from bid_assets.simulation.jobs import SimulatedJobs
from bid_assets.simulation.vocabulary import CATEGORIES, FIRST_NAMES, INDUSTRIES, LAST_NAMES, SKILLS

MOST_SPECIFIC = 4
"""Most sentences of a bid text that speak about the very job."""

Words = NDArray[np.object_]

_SKILL = np.array([skill.name for skill in SKILLS], dtype=object)
_TASK = np.array([skill.task for skill in SKILLS], dtype=object)
_METHOD = np.array([skill.method for skill in SKILLS], dtype=object)
_INDUSTRY = np.array(INDUSTRIES, dtype=object)
_DELIVERABLE = np.array([category.deliverables for category in CATEGORIES], dtype=object)


def job_texts(jobs: SimulatedJobs, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Titles, and descriptions of mostly 45 to 120 words. Each need is described; the tone shows how serious the client is."""
    needs = _order(rng, jobs.needs)
    slots = {
        "deliverable": _deliverable(jobs),
        "industry": _INDUSTRY[jobs.industry],
        "skill": _SKILL[needs[:, 0]],
        "other": _SKILL[needs[:, 1]],
        "count": rng.integers(3, 60, len(jobs)).astype(str).astype(object),
        "days": rng.integers(2, 30, len(jobs)).astype(str).astype(object),
    }
    everyone = np.ones(len(jobs), np.bool_)
    titles = _sentence(rng, phrases.TITLES, everyone, slots)
    sentences = [_sentence(rng, phrases.JOB_OPENINGS, everyone, slots)]
    for place in range(needs.shape[1]):
        need = slots | {"task": _TASK[needs[:, place]], "skill": _SKILL[needs[:, place]]}
        sentences.append(_sentence(rng, phrases.JOB_NEEDS, needs[:, place] >= 0, need))
    sentences += _choices(rng, phrases.JOB_CONTEXT, rng.integers(0, 5, len(jobs)), slots)
    sentences += _choices(rng, phrases.VAGUE_CLIENT, np.where(jobs.seriousness == 0, 2, 0), slots)
    sentences += _choices(rng, phrases.SERIOUS_CLIENT, np.where(jobs.seriousness == 2, 2, 0), slots)
    return titles.tolist(), _joined(sentences)


def bid_texts(
    rng: np.random.Generator,
    jobs: SimulatedJobs,
    job: NDArray[np.int64],
    skills: NDArray[np.bool_],
    effort: NDArray[np.int64],
    names: Sequence[str],
) -> list[str]:
    """Texts of about 20 to 150 words for bids on `jobs[job]` by people with these skills (bids x skills).

    `effort` sentences speak about the very job. What covers the job's needs is claimed, what does not is admitted, mostly.
    The rest says nothing: it makes a text longer, not better.
    """
    needs, count = jobs.needs[job], len(job)
    covered, lacking = _order(rng, needs & skills), _order(rng, needs & ~skills)
    fit = (covered >= 0).sum(1) / needs.sum(1)
    spoken = _one_after_the_other(covered, lacking)
    slots: dict[str, Words] = {
        "deliverable": _deliverable(jobs)[job],
        "name": np.array(names, dtype=object),
        "skill": _SKILL[spoken[:, 0]],
        "other": _SKILL[spoken[:, 1]],
        "count": rng.integers(2, 40, count).astype(str).astype(object),
        "days": rng.integers(2, 45, count).astype(str).astype(object),
    }
    any_industry = {"industry": _INDUSTRY[rng.integers(len(INDUSTRIES), size=count)]}
    sentences = [_sentence(rng, phrases.GREETINGS, rng.random(count) < 0.7, slots)]
    before, after = rng.integers(1, 4, count), rng.integers(0, 4, count)
    generic = _choices(rng, phrases.GENERIC, before + after, slots)
    sentences += [np.where(before > place, column, "") for place, column in enumerate(generic)]
    claims = (fit > 0.6) & (rng.random(count) < 0.75)
    sentences.append(_sentence(rng, phrases.GOOD_FIT, claims, slots | any_industry))
    admits = (fit < 0.45) & (rng.random(count) < 0.6)
    sentences.append(_sentence(rng, phrases.POOR_FIT, admits, slots | {"skill": _SKILL[lacking[:, 0].clip(0)]}))
    manner = _shuffled(rng, count, len(phrases.SPECIFIC))
    for place in range(MOST_SPECIFIC):
        about = spoken[:, place]
        own = {"task": _TASK[about], "method": _METHOD[about], "skill": _SKILL[about]}
        own["industry"] = _INDUSTRY[rng.integers(len(INDUSTRIES), size=count)]
        sentences.append(_fill(phrases.SPECIFIC, manner[:, place], effort > place, slots | own))
    sentences.append(_sentence(rng, phrases.QUESTIONS, rng.random(count) < 0.2 * effort, slots))
    sentences += [np.where(before <= place, column, "") for place, column in enumerate(generic)]
    sentences.append(_sentence(rng, phrases.CLOSINGS, rng.random(count) < 0.85, slots))
    return _joined(sentences)


def full_names(numbers: NDArray[np.int64]) -> list[str]:
    """A first and a last name for each number."""
    first, last = numbers % len(FIRST_NAMES), numbers // len(FIRST_NAMES) % len(LAST_NAMES)
    return [f"{FIRST_NAMES[f]} {LAST_NAMES[name]}" for f, name in zip(first.tolist(), last.tolist(), strict=True)]


def skill_names(has: NDArray[np.bool_]) -> list[list[str]]:
    """The names of each row's skills."""
    row, skill = has.nonzero()
    return (
        [names.tolist() for names in np.split(_SKILL[skill], np.searchsorted(row, np.arange(1, len(has))))] if len(has) else []
    )


def _deliverable(jobs: SimulatedJobs) -> Words:
    return np.asarray(_DELIVERABLE[jobs.category, jobs.deliverable])


def _order(rng: np.random.Generator, has: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The numbers of each row's true columns in random order, filled up with -1; five columns."""
    key = np.where(has, rng.random(has.shape), 2.0)
    first = np.argsort(key, axis=1)[:, :5]
    return np.where(np.take_along_axis(has, first, 1), first, -1)


def _one_after_the_other(first: NDArray[np.int64], then: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers of `first`, after them those of `then`, after the last again from the beginning; five columns, none empty."""
    both = np.concatenate([first, then], axis=1)
    both = np.take_along_axis(both, np.argsort(both < 0, axis=1, kind="stable"), 1)
    turn = np.arange(first.shape[1]) % (both >= 0).sum(1)[:, None]
    return np.take_along_axis(both, turn, 1)


def _shuffled(rng: np.random.Generator, rows: int, size: int) -> NDArray[np.int64]:
    """The numbers below `size` in an order of its own for each row."""
    return np.argsort(rng.random((rows, size)), axis=1)


def _choices(
    rng: np.random.Generator, templates: Sequence[str], counts: NDArray[np.int64], slots: Mapping[str, Words]
) -> list[Words]:
    """`counts` different sentences for each row."""
    order = _shuffled(rng, len(counts), len(templates))
    return [_fill(templates, order[:, place], counts > place, slots) for place in range(int(counts.max(initial=0)))]


def _sentence(
    rng: np.random.Generator, templates: Sequence[str], where: NDArray[np.bool_], slots: Mapping[str, Words]
) -> Words:
    return _fill(templates, rng.integers(len(templates), size=len(where)), where, slots)


def _fill(templates: Sequence[str], choice: NDArray[np.int64], where: NDArray[np.bool_], slots: Mapping[str, Words]) -> Words:
    """One sentence for each row with `where`, else nothing; template by template. {Skill} is {skill} at a sentence's start."""
    filled = np.full(len(where), "", dtype=object)
    for number, template in enumerate(templates):
        rows = np.flatnonzero(where & (choice == number))
        text = filled[rows]
        for literal, place, _, _ in Formatter().parse(template):
            text = text + literal
            if place:
                words = slots[place.lower()][rows]
                text = text + (words if place.islower() else _capital(words))
        filled[rows] = text
    return filled


def _capital(words: Words) -> Words:
    return np.array([word[:1].upper() + word[1:] for word in words.tolist()], dtype=object)


def _joined(sentences: Sequence[Words]) -> list[str]:
    return [" ".join(filter(None, row)) for row in zip(*(column.tolist() for column in sentences), strict=True)]
