"""Sessions of simulated labellers: a slice, a mask that is wrong somewhere, and clicks one after the other until it is right."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from prato.data.structures import NUM_CLASSES
from prato.refinement.refiner_input import keep_touching, refiner_input
from prato.training.click_bank import ClickBank
from prato.training.simulated_labeller import LEARNING, point_at, wrong_parts
from prato.training.slice_bank import CANVAS

#: Pixels of the piece of a slice, round the heart, that a session is about; its rim is never the middle of a crop.
SCENE = 176
#: Parts smaller than this many pixels are not worth a click; a session has at most so many rounds.
SMALLEST, ROUNDS = 4, 6
#: A slice with a part of so many pixels or more is as likely as any.
ENOUGH = 120
#: Share of the samples without a stroke, where the masks of neighbours say what is there, and of strokes on what is right already.
UNPROMPTED, NEEDLESS = 0.1, 0.03
#: Share of the sessions in which nobody knows what a network thought.
UNSCORED = 0.1


@dataclass
class Session:
    """One slice, turned and scaled: image float32 (3, h, w), truth and mask uint8 (h, w), masks of right neighbours, certain bool (h, w),
    scores float32 (classes, h, w) in 0..1 of the network that made a draft."""

    image: np.ndarray
    truth: np.ndarray
    mask: np.ndarray
    neighbours: list[np.ndarray | None]
    certain: np.ndarray
    scores: np.ndarray | None
    strokes: list[tuple[int, np.ndarray]] = field(default_factory=list)
    rounds: int = 1


@dataclass(frozen=True)
class Sample:
    """A crop of a session, as the refiner sees it, and what is to be made of it; ``newest`` are the stroke's places in the crop, and
    ``wrong`` the pixels of the part that it is about."""

    session: Session
    corner: tuple[int, int]
    inputs: np.ndarray
    truth: np.ndarray
    mask: np.ndarray
    newest: np.ndarray | None
    structure: int
    wrong: int

    def answer(self, refined: np.ndarray) -> None:
        """Go on with the mask uint8 (h, w) that the refiner made of the crop."""
        if self.newest is None:
            return
        inside = self.newest[((self.newest >= 0) & (self.newest < self.mask.shape)).all(1)]
        after = keep_touching(self.mask, refined, inside, 3.0)
        after[tuple(inside.T)] = self.structure
        size = self.mask.shape
        place = tuple(slice(a, a + n) for a, n in zip(self.corner, size))
        self.session.mask[place] = np.where(self.session.certain[place], self.session.mask[place], after)


class ClickSampler:
    """Draws samples for training: ``count`` sessions go on at the same time.

    Args:
        edge: of the crops, in pixels.
    """

    def __init__(self, bank: ClickBank, seed: int, count: int, edge: int) -> None:
        self.bank, self.edge, self._count = bank, edge, count
        self._hearts, self._worth = _heart_planes(bank), _largest_parts(bank)
        self.restart(seed)

    def restart(self, *seed: int) -> None:
        """Begin all sessions anew, with the random numbers of ``seed``."""
        self.random = np.random.default_rng(seed)
        self._sessions = [self.begin() for _ in range(self._count)]

    def batch(self) -> list[Sample]:
        """The next sample of each session."""
        samples = []
        for number, session in enumerate(self._sessions):
            sample = self._next(session)
            while sample is None:
                self._sessions[number] = self.begin()
                sample = self._next(self._sessions[number])
            samples.append(sample)
        return samples

    def _next(self, session: Session) -> Sample | None:
        if session.rounds == 0:
            return None
        session.rounds -= 1
        if self.random.random() < UNPROMPTED and any(other is not None for other in session.neighbours):
            session.rounds = 0
            heart = np.argwhere(sum((other > 0 for other in session.neighbours if other is not None), np.zeros(session.mask.shape, bool)))
            middle = heart.mean(0) if len(heart) else np.array(session.mask.shape) / 2
            return self._sample(session, middle + self.random.uniform(-8, 8, 2), None, 0, int((session.mask != session.truth).sum()))
        numbers, sizes = wrong_parts(session.mask, session.truth)
        if self.random.random() < NEEDLESS:
            place = np.argwhere(ndimage.binary_dilation(session.truth > 0, iterations=5) & (numbers == 0))
            if not len(place):
                return None
            at = place[self.random.integers(len(place))]
            structure, places = int(session.truth[tuple(at)]), at[None]
        elif sizes.max() < SMALLEST:
            return None
        else:
            structure, places = point_at(numbers, sizes, session.truth, LEARNING, self.random)
        session.strokes.append((structure, places))
        return self._sample(session, (places.min(0) + places.max(0)) / 2, places, structure, int(sizes[numbers[tuple(places.T)]].max()))

    def _sample(self, session: Session, middle: np.ndarray, places: np.ndarray | None, structure: int, wrong: int) -> Sample:
        edge = self.edge
        low = np.clip(np.round(middle - edge / 2).astype(int), 0, SCENE - edge)
        at = tuple(slice(a, a + edge) for a in low)
        corner = int(low[0]), int(low[1])
        near = [(value, where - low) for value, where in session.strokes]
        newest = None if places is None else places - low
        new = None if newest is None else (structure, newest)
        inputs = refiner_input(
            session.image[(slice(None), *at)], session.mask[at], near, new, session.certain[at],
            [None if other is None else other[at] for other in session.neighbours],
            None if session.scores is None else session.scores[(slice(None), *at)],
        )  # fmt: skip
        return Sample(session, corner, inputs, session.truth[at], session.mask[at].copy(), newest, structure, wrong)

    def begin(self) -> Session:
        """A session before its first click."""
        random, bank = self.random, self.bank
        case = int(random.integers(len(bank.first)))
        first, count = int(bank.first[case]), int(bank.count[case])
        draft = int(random.integers(len(bank.scores)))
        worth = self._worth[draft, first + self._hearts[case]]
        k = int(random.choice(self._hearts[case], p=worth / worth.sum()))
        rows = [first + min(max(k + step, 0), count - 1) for step in (-1, 0, 1)]
        if random.random() < 0.5:
            rows.reverse()
        scores = bank.scores[draft, rows[1]]
        grid = self._grid(first, count)
        greys = torch.from_numpy(np.concatenate([bank.images[rows], scores])).float()[None]
        marks = torch.from_numpy(bank.labels[rows]).float()[None]
        seen = F.grid_sample(greys, grid, padding_mode="zeros", align_corners=False)[0].numpy()
        image, thought = seen[:3] / 127.5 - 1, seen[3:] / 255
        thought[0][thought.max(0) == 0] = 1
        before, truth, after = F.grid_sample(marks, grid, mode="nearest", align_corners=False)[0].numpy().astype(np.uint8)
        lit = np.clip((image + 1) / 2, 0, 1) ** random.uniform(0.7, 1.4) * random.uniform(0.85, 1.15)
        image = (2 * lit - 1 + random.uniform(0, 0.08) * random.standard_normal(image.shape)).astype(np.float32)
        beside = [None if random.random() < 0.6 or row == rows[1] else other for row, other in ((rows[0], before), (rows[2], after))]
        mask = self._spoil(truth, thought.argmax(0).astype(np.uint8), before if random.random() < 0.5 else after)
        certain = np.zeros(truth.shape, bool)
        if random.random() < 0.15:
            certain = _smooth(random, truth.shape, 12) > 0.8
            mask = np.where(certain, truth, mask)
        return Session(
            image,
            truth,
            mask.astype(np.uint8),
            beside,
            certain,
            None if random.random() < UNSCORED else thought,
            rounds=int(random.integers(1, ROUNDS + 1)),
        )

    def _grid(self, first: int, count: int) -> torch.Tensor:
        """(1, SCENE, SCENE, 2): round the heart, turned, scaled, mirrored."""
        random = self.random
        heart = np.argwhere(self.bank.labels[first : first + count].any(0))
        middle = heart.mean(0) + random.uniform(-10, 10, 2)
        angle, scale = random.uniform(-math.pi, math.pi), math.exp(random.uniform(-0.2, 0.2))
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) / scale
        if random.random() < 0.5:
            turn[:, 0] *= -1
        line = np.arange(SCENE) + 0.5 - SCENE / 2
        places = np.stack(np.meshgrid(line, line, indexing="ij"), -1) @ turn.T + middle + 0.5
        return torch.from_numpy((places[..., ::-1] / CANVAS * 2 - 1).astype(np.float32))[None]

    def _spoil(self, truth: np.ndarray, draft: np.ndarray, beside: np.ndarray) -> np.ndarray:
        """A mask that is wrong somewhere: as networks are wrong, as the next slice is, bent, or without a structure."""
        random = self.random
        kind = random.random()
        if kind < 0.65:
            wrong = draft
        elif kind < 0.75:
            wrong = beside
        elif kind < 0.9:
            wrong = _bend(truth, random)
        else:
            change = np.arange(NUM_CLASSES)
            gone = int(random.integers(NUM_CLASSES))
            if gone == 0:  # all of them
                change[:] = 0
            else:
                change[gone] = int(random.integers(NUM_CLASSES))
            wrong = change[truth]
        if random.random() < 0.3:
            wrong = np.where(_smooth(random, truth.shape, 14) > 0.2, wrong, truth)
        return wrong


def _heart_planes(bank: ClickBank) -> list[np.ndarray]:
    """Of each case, the slices that hold a structure, and one beyond them at both ends."""
    found = []
    for first, count in zip(bank.first.tolist(), bank.count.tolist()):
        held = np.flatnonzero(bank.labels[first : first + count].any((1, 2)))
        found.append(np.arange(max(held[0] - 1, 0), min(held[-1] + 2, count)))
    return found


def _largest_parts(bank: ClickBank) -> np.ndarray:
    """float (V, N): pixels of the largest wrong part of each draft, from SMALLEST to ENOUGH: labellers begin with the slices that are most
    wrong."""
    found = [[wrong_parts(scores.argmax(0), label)[1].max() for scores, label in zip(drafts, bank.labels)] for drafts in bank.scores]
    return np.clip(np.array(found, float), SMALLEST, ENOUGH)


def _smooth(random: np.random.Generator, shape: tuple[int, ...], pixels: int) -> np.ndarray:
    """Smooth noise of standard deviation 1 that changes over so many pixels."""
    coarse = random.standard_normal((1, 1, -(-shape[0] // pixels) + 1, -(-shape[1] // pixels) + 1)).astype(np.float32)
    field = F.interpolate(torch.from_numpy(coarse), size=tuple(shape), mode="bicubic", align_corners=True)[0, 0].numpy()
    return np.asarray(field / max(float(field.std()), 1e-6))


def _bend(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    far, pixels = random.uniform(1.5, 5), int(random.integers(10, 40))
    rows, columns = np.indices(mask.shape)
    shift = [far * _smooth(random, mask.shape, pixels) for _ in range(2)]
    at = [np.clip(np.rint(line + move).astype(int), 0, size - 1) for line, move, size in zip((rows, columns), shift, mask.shape)]
    return mask[at[0], at[1]]
