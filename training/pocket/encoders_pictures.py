"""Pictures and clips as batches: each drawn anew from the packed ones, on the device, with what is true of it.

    pool = PicturePool(Manifest.load(folder), "cuda")            # one thing, a painted one, several, or two
    pool = ClipPool(Manifest.load(folder), "cuda")               # things that move, and animations

A picture's item holds: alone ("dog face"), painted ("blue dog face"), counted ("three dog faces"), in a pair
("dog face and pizza"). What `splits.py` holds back is never made for training; the tests are the held-out
style x concept pictures, the held-out colours, and held-out motions.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .data import HELDOUT_STYLE, SIDE, TRAIN, Item, Manifest
from .encoders_colours import COLOURS, HUES, all_painted, can_be_painted, main_colour
from .encoders_data import Batch, between, chooser, draws
from .splits import held_colour, held_motion, held_pair

COUNTS = ("one", "two", "three", "four")
MOTIONS = (
    "moving left",
    "moving right",
    "moving up",
    "moving down",
    "spinning",
    "growing",
    "shrinking",
    "bouncing",
    "fading away",
)
FRAMES = 8
QUESTIONS = {
    "name": ("what is it", "what is this", "what do you see", "what is in the picture", "what does the picture show"),
    "colour": (
        "what colour is it",
        "what color is it",
        "which colour is this",
        "what is its colour",
        "what color does it have",
    ),
    "count": ("how many are there", "how many things are there", "how many do you see", "count them"),
    "style": ("which style is it", "what style is it", "in which style is it drawn", "what is the style"),
}


@dataclass
class Drawn:
    """One item to be drawn: rows of pictures, where each goes, and the truth."""

    rows: list[int]
    places: list[tuple[float, float, float]]  # x, y in -1…1, size against the whole
    told: str
    captions: list[str]
    name: str
    key: str
    facts: dict[str, str]


class Stock:
    """The pictures on the device, their items, colours, and painted copies.

    `whole`: what is held out is drawn as well, for a judge, which nobody measures by what it has not seen.
    """

    def __init__(self, manifest: Manifest, device: str, painted: int, seed: int = 0, whole: bool = False):
        self.items = manifest.select("image", TRAIN)
        self.items = [i for i in self.items if i.weight > 0]
        self.held = manifest.select("image", HELDOUT_STYLE)
        if whole:
            self.items = [*self.items, *(i for i in self.held if i.weight > 0)]
        pictures = np.asarray(manifest.array("image"))
        self.colour = main_colour(pictures)
        self.painted, extra, self.unseen = self._paint(pictures, painted, seed)
        if whole:
            self.painted = [*self.painted, *self.unseen]
        every_picture = np.concatenate([pictures, extra]) if len(extra) else pictures
        self.pictures = premultiplied(torch.from_numpy(every_picture).to(device))
        weights = np.array([i.weight for i in self.items])
        self.chances = np.cumsum(weights / weights.sum())
        every = [*self.items, *self.held]  # a held one twice does not matter
        self.concepts = sorted({i.name for i in every})
        self.styles = sorted({i.style for i in every})

    def _paint(
        self, pictures: np.ndarray, count: int, seed: int
    ) -> tuple[list[tuple[Item, str, int]], np.ndarray, list[tuple[Item, str, int]]]:
        """(item, colour, row) for training, the painted pictures, and (item, colour, row) of held-out colours."""
        rng = np.random.default_rng([seed, 5])
        able = [
            i for i in self.items if can_be_painted(int(self.colour[i.row])) and not set(i.name.split()) & set(COLOURS)
        ]
        trained: list[tuple[Item, str, int]] = []
        tested: list[tuple[Item, str, int]] = []
        wanted: list[tuple[np.ndarray, str]] = []
        colours = list(HUES)
        while able and len(wanted) < count:
            item, colour = able[int(rng.integers(len(able)))], colours[int(rng.integers(len(colours)))]
            if COLOURS[int(self.colour[item.row])] == colour:
                continue
            (tested if held_colour(colour, item.name) else trained).append((item, colour, len(pictures) + len(wanted)))
            wanted.append((pictures[item.row], colour))
        return trained, all_painted(wanted), tested

    def some(self, rng: np.random.Generator) -> Item:
        """An item, by its weight."""
        return self.items[min(len(self.items) - 1, int(np.searchsorted(self.chances, rng.random())))]

    def alone(
        self, item: Item, rng: np.random.Generator | None, place: tuple[float, float, float] = (0, 0, 1)
    ) -> Drawn:
        """One thing as it is."""
        facts = {"name": item.name, "count": "one", "style": item.style}
        if (colour := int(self.colour[item.row])) >= 0:
            facts["colour"] = COLOURS[colour]
        said = [item.name]
        if rng is not None:
            words = [item.name, item.name, *item.keywords[:2]]
            word = words[int(rng.integers(len(words)))]
            forms = (
                word,
                word,
                f"a picture of {article(word)}",
                f"{article(word)} in {item.style} style",
                article(word),
            )
            said = [forms[int(rng.integers(len(forms)))]]
        return Drawn([item.row], [place], item.name, said, item.name, item.concept, facts)

    def coloured(self, entry: tuple[Item, str, int]) -> Drawn:
        """One painted thing."""
        item, colour, row = entry
        name = f"{colour} {item.name}"
        facts = {"name": item.name, "count": "one", "style": item.style, "colour": colour}
        return Drawn([row], [(0, 0, 1)], name, [name], item.name, f"{colour}/{item.concept}", facts)

    def counted(self, item: Item, count: int, rng: np.random.Generator) -> Drawn:
        """Two to four of a thing."""
        spots: dict[int, list[tuple[float, float]]] = {
            2: [(-0.5, 0), (0.5, 0)], 3: [(-0.5, -0.45), (0.5, -0.45), (0, 0.5)],
            4: [(-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)],
        }  # fmt: skip
        where = spots[count]
        places = [(x + float(rng.uniform(-0.05, 0.05)), y + float(rng.uniform(-0.05, 0.05)), 0.46) for x, y in where]
        told = f"{COUNTS[count - 1]} {plural(item.name)}"
        facts = {"name": plural(item.name), "count": COUNTS[count - 1], "style": item.style}
        return Drawn([item.row] * count, places, told, [told], item.name, told, facts)

    def pair(self, one: Item, two: Item, rng: np.random.Generator) -> Drawn:
        """Two different things side by side."""
        told = f"{one.name} and {two.name}"
        places = [(-0.5, float(rng.uniform(-0.2, 0.2)), 0.5), (0.5, float(rng.uniform(-0.2, 0.2)), 0.5)]
        facts = {"name": told, "count": "two"}
        return Drawn([one.row, two.row], places, told, [told], one.name, told, facts)


def premultiplied(pictures: Tensor) -> Tensor:
    """uint8 (n, h, w, 4) -> float16 (n, 4, h, w) in 0…1, colours times opacity, so that edges mix rightly."""
    x = pictures.permute(0, 3, 1, 2).half() / 255
    return torch.cat([x[:, :3] * x[:, 3:], x[:, 3:]], 1)


def article(name: str) -> str:
    """With a or an; plain where it is a plural already."""
    if name.endswith("s") and not name.endswith("ss"):
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def plural(name: str) -> str:
    """English in the common cases."""
    if name.endswith("s") and not name.endswith(("ss", "us")):
        return name
    if name.endswith(("ss", "us", "x", "ch", "sh", "z")):
        return name + "es"
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return name[:-1] + "ies"
    return name + "s"


def placed(
    stock: Tensor, rows: Tensor, x: Tensor, y: Tensor, size: Tensor, angle: Tensor, bent: Tensor | None = None
) -> Tensor:
    """Pictures (m, 4, 64, 64) moved, scaled and turned, outside transparent; `bent` (m, 64, 64, 2) moves each place."""
    cos, sin = angle.cos() / size, angle.sin() / size
    theta = torch.stack(
        [torch.stack([cos, sin, -(cos * x + sin * y)], 1), torch.stack([-sin, cos, sin * x - cos * y], 1)], 1
    )
    grid = F.affine_grid(theta, [len(rows), 4, SIDE, SIDE], align_corners=False)
    if bent is not None:
        grid = grid + bent
    return F.grid_sample(stock[rows].float(), grid, align_corners=False)


def background(n: int, rng: torch.Generator, other: bool) -> Tensor:
    """(n, 3, 64, 64): mostly white, some light or any colours, the judge's with a slope or grain."""
    device = rng.device
    kind = between(n, 0, 1, rng)[:, None, None, None]
    tint = torch.rand(n, 3, 1, 1, generator=rng, device=device)
    plain = torch.where(
        kind < 0.6, torch.ones_like(tint), torch.where(kind < 0.85, 0.75 + 0.25 * tint, 0.15 + 0.85 * tint)
    )
    whole = plain.expand(n, 3, SIDE, SIDE)
    if other:
        slope = (
            torch.linspace(-0.5, 0.5, SIDE, device=device)[None, None, :, None]
            * between(n, -0.5, 0.5, rng)[:, None, None, None]
        )
        whole = (
            whole + slope * (kind > 0.4) + 0.05 * torch.randn(whole.shape, generator=rng, device=device) * (kind > 0.5)
        )
    return whole.clamp(0, 1)


def spoiled(pictures: Tensor, rng: torch.Generator, other: bool, frames: int = 1) -> Tensor:
    """Brightness and contrast, alike for the `frames` of a clip, and grain; for the judge blur and a covered patch."""
    n, device = len(pictures), pictures.device
    gain, lift = (between(n // frames, -1, 1, rng).repeat_interleave(frames)[:, None, None, None] for _ in range(2))
    gain, lift = 1 + 0.15 * gain, 0.06 * lift
    made = (pictures - 0.5) * gain + 0.5 + lift
    if not other:
        return made + 0.03 * torch.rand(n, 1, 1, 1, generator=rng, device=device) * torch.randn(
            made.shape, generator=rng, device=device
        )
    soft = F.avg_pool2d(F.pad(made, (1, 1, 1, 1), mode="replicate"), 3, 1)
    made = torch.lerp(made, soft, between(n, 0, 1, rng)[:, None, None, None])
    x, y = draws(n, SIDE, rng)[:, None], draws(n, SIDE, rng)[:, None]
    place = torch.arange(SIDE, device=device)[None]
    covered = (
        ((place - y).abs() < 8)[:, :, None]
        & ((place - x).abs() < 8)[:, None]
        & (between(n, 0, 1, rng) < 0.3)[:, None, None]
    )
    return torch.where(covered[:, None], torch.full((), 0.5, device=device), made)


def field(m: int, cells: int, rng: torch.Generator, many: int = 1) -> Tensor:
    """(m, many, 64, 64): noise that changes slowly, of deviation about 1 at its cells."""
    coarse = torch.randn(m, many, cells, cells, generator=rng, device=rng.device)
    return F.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic", align_corners=True)


def redrawn(m: int, rng: torch.Generator) -> Tensor:
    """(m, 64, 64, 2): what another hand would do to a picture: stretched, and its lines a little elsewhere.

    A thing in a style in which it was never shown differs from the ones shown in shape more than in place.
    """
    line = torch.linspace(-1, 1, SIDE, device=rng.device)
    x, y = line.expand(SIDE, SIDE), line[:, None].expand(SIDE, SIDE)
    stretch = between(m, -0.14, 0.14, rng)[:, None, None]
    shear = between(m, -0.12, 0.12, rng)[:, None, None]
    moved = torch.stack([stretch * x + shear * y, -stretch * y], -1)
    far = between(m, 0, 0.05, rng)[:, None, None, None] * (between(m, 0, 1, rng) < 0.8)[:, None, None, None]
    return moved + far * field(m, 5, rng, 2).permute(0, 2, 3, 1)


def restyled(layers: Tensor, rng: torch.Generator) -> Tensor:
    """Premultiplied layers (m, 4, h, w) with other shading, tints and outlines, each in some of them."""
    m = len(layers)
    colour, there = layers[:, :3], layers[:, 3:]

    def some(chance: float) -> Tensor:
        return (between(m, 0, 1, rng) < chance).float()[:, None, None, None]

    shade = 1 + 0.14 * some(0.5) * field(m, 4, rng)
    tint = 1 + 0.1 * torch.randn(m, 3, 1, 1, generator=rng, device=rng.device).clamp(-2, 2) * some(0.6)
    colour = (colour * shade * tint).minimum(there).clamp(min=0)
    grey = colour.mean(1, keepdim=True)
    colour = torch.lerp(grey, colour, 1 + between(m, -0.35, 0.35, rng)[:, None, None, None] * some(0.6))
    inner = -F.max_pool2d(-there, 3, 1, 1)
    outline = (there - inner).clamp(min=0) * some(0.2)
    return torch.cat([(colour * (1 - outline)).minimum(there).clamp(min=0), there], 1)


def hidden_in_part(pictures: Tensor, rng: torch.Generator) -> Tensor:
    """A square of some pictures (n, 3, 64, 64) covered, others softened."""
    n, device = len(pictures), pictures.device
    soft = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    soften = between(n, 0, 1, rng) * (between(n, 0, 1, rng) < 0.3)
    made = torch.lerp(pictures, soft, soften[:, None, None, None])
    x, y, half = draws(n, SIDE, rng)[:, None], draws(n, SIDE, rng)[:, None], between(n, 4, 11, rng)[:, None]
    place = torch.arange(SIDE, device=device)[None]
    chosen = (between(n, 0, 1, rng) < 0.35)[:, None, None]
    covered = ((place - y).abs() < half)[:, :, None] & ((place - x).abs() < half)[:, None] & chosen
    fill = torch.rand(n, 3, 1, 1, generator=rng, device=device)
    return torch.where(covered[:, None], fill, made)


def laid_over(layers: Tensor, owners: Sequence[int], ground: Tensor) -> Tensor:
    """Premultiplied layers (m, 4, h, w), in order, over the grounds (n, 3, h, w) of their owners (m,), which come
    sorted."""
    made = ground.clone()
    turns: dict[int, list[int]] = {}
    for row, owner in enumerate(owners):
        turns.setdefault(row - bisect_left(owners, owner), []).append(row)
    for rows in turns.values():
        at = torch.tensor([owners[r] for r in rows], device=made.device)
        first = torch.tensor(rows, device=made.device)
        made[at] = layers[first, :3] + made[at] * (1 - layers[first, 3:])
    return made


class PicturePool:
    """See the top, and `encoders_data.Pool`."""

    sense = "image"

    def __init__(self, manifest: Manifest, device: str, painted: int = 6000, other: bool = False, seed: int = 0):
        self.device, self.other = device, other
        self.stock = Stock(manifest, device, painted, seed + (1000 if other else 0), whole=other)
        self.classes = {
            "concept": self.stock.concepts,
            "colour": list(COLOURS),
            "style": self.stock.styles,
            "count": list(COUNTS),
        }
        self._number = {kind: {name: n for n, name in enumerate(own)} for kind, own in self.classes.items()}

    def batch(self, n: int, rng: torch.Generator) -> Batch:
        """See Pool."""
        choose = chooser(rng)
        return self.made([self._drawn(choose) for _ in range(n)], rng)

    def _drawn(self, rng: np.random.Generator) -> Drawn:
        kind, stock = rng.random(), self.stock
        if kind < 0.62 or not stock.painted:
            return stock.alone(stock.some(rng), rng)
        if kind < 0.78:
            return stock.coloured(stock.painted[int(rng.integers(len(stock.painted)))])
        one, two = stock.some(rng), stock.some(rng)
        if kind < 0.9 or one.concept == two.concept or held_pair(one.concept, two.concept):
            return stock.counted(one, int(rng.integers(2, 5)), rng)
        return stock.pair(one, two, rng)

    def made(self, some: Sequence[Drawn], rng: torch.Generator | None) -> Batch:
        """Draws them; without a generator as they are, on white."""
        device = self.device
        owners = [n for n, d in enumerate(some) for _ in d.rows]
        rows = torch.tensor([r for d in some for r in d.rows], device=device)
        x, y, size = torch.tensor([p for d in some for p in d.places], device=device, dtype=torch.float32).T
        angle = torch.zeros_like(x)
        ground = torch.ones(len(some), 3, SIDE, SIDE, device=device)
        if rng is not None:
            m, alone = len(rows), (size > 0.9).float()
            angle = between(m, -0.2, 0.2, rng)
            size = size * between(m, 0.8 if self.other else 0.72, 1.08, rng)
            x, y = x + 0.15 * alone * between(m, -1, 1, rng), y + 0.15 * alone * between(m, -1, 1, rng)
            ground = background(len(some), rng, self.other)
        varied = rng if rng is not None and not self.other else None
        bent = redrawn(len(rows), varied) if varied is not None else None
        layers = placed(self.stock.pictures, rows, x, y, size, angle, bent)
        if varied is not None:
            layers = restyled(layers, varied)
        made = laid_over(layers, owners, ground)
        if varied is not None:
            made = hidden_in_part(made, varied)
        if rng is not None:
            made = spoiled(made, rng, self.other)
        return self.told(some, made[:, None] * 2 - 1, rng)

    def told(self, some: Sequence[Drawn], items: Tensor, rng: torch.Generator | None) -> Batch:
        """The batch with labels and a question for each."""
        picks = list(range(len(some))) if rng is None else chooser(rng).integers(1 << 30, size=len(some)).tolist()
        asked = []
        for d, pick in zip(some, picks, strict=True):
            kinds = [k for k in QUESTIONS if k in d.facts]
            kind = kinds[pick % len(kinds)]
            asked.append((QUESTIONS[kind][(pick // 7) % len(QUESTIONS[kind])], d.facts[kind]))
        labels = {}
        for kind, number in self._number.items():
            of = [d.name if kind == "concept" and len(set(d.rows)) == 1 else d.facts.get(kind, "") for d in some]
            labels[kind] = torch.tensor([number.get(v, -1) for v in of], device=self.device)
        keys = {k: n for n, k in enumerate(dict.fromkeys(d.key for d in some))}
        same = torch.tensor([keys[d.key] for d in some], device=self.device)
        return Batch(
            items, [d.captions[0] for d in some], [d.told for d in some], [d.name for d in some], same, labels, asked
        )

    def tests(self) -> Iterator[Batch]:
        """Held-out style x concept, as they are."""
        for at in range(0, len(self.stock.held), 64):
            yield self.made([self.stock.alone(i, None) for i in self.stock.held[at : at + 64]], None)

    def tests_painted(self) -> Iterator[Batch]:
        """Held-out colours on things."""
        some = self.stock.unseen[:256]
        for at in range(0, len(some), 64):
            yield self.made([self.stock.coloured(e) for e in some[at : at + 64]], None)

    def texts(self) -> Iterator[str]:
        """See Pool."""
        for item in [*self.stock.items, *self.stock.held]:
            yield from (item.name, plural(item.name), article(item.name), *item.keywords[:2], item.style)
        yield from (
            *COLOURS,
            *COUNTS,
            *MOTIONS,
            "a an and picture of in style",
            *(q for own in QUESTIONS.values() for q in own),
        )


class ClipPool(PicturePool):
    """Things that move over eight frames, and the animated set."""

    sense = "video"

    def __init__(self, manifest: Manifest, device: str, painted: int = 3000, other: bool = False, seed: int = 0):
        super().__init__(manifest, device, painted, other, seed)
        self.classes = {k: self.classes[k] for k in ("concept", "colour")} | {"motion": list(MOTIONS)}
        self._number = {kind: {name: n for n, name in enumerate(own)} for kind, own in self.classes.items()}
        clips = np.asarray(manifest.array("video"))[:, ::2]
        self.animated = premultiplied(torch.from_numpy(np.ascontiguousarray(clips)).flatten(0, 1)).view(
            -1, FRAMES, 4, SIDE, SIDE
        )
        self.animations = [i for i in manifest.select("video", TRAIN) if i.weight > 0]

    def batch(self, n: int, rng: torch.Generator) -> Batch:
        """See Pool: a sixth are animations."""
        choose = chooser(rng)
        some, motions = [], []
        for _ in range(n):
            drawn, motion = self._moving(choose)
            some.append(drawn)
            motions.append(motion)
        return self.moved(some, motions, rng)

    def _moving(self, rng: np.random.Generator) -> tuple[Drawn, str]:
        kind, stock = rng.random(), self.stock
        if kind < 0.16 and self.animations:
            item = self.animations[int(rng.integers(len(self.animations)))]
            facts = {"name": item.name, "count": "one", "style": item.style}
            return Drawn([-1 - item.row], [(0, 0, 1)], item.name, [item.name], item.name, item.concept, facts), ""
        drawn = (stock.coloured(stock.painted[int(rng.integers(len(stock.painted)))]) if kind < 0.4 and stock.painted
                 else stock.alone(stock.some(rng), None))  # fmt: skip
        allowed = [m for m in MOTIONS if not held_motion(drawn.key.split("/")[-1], m)] or list(MOTIONS)
        return drawn, allowed[int(rng.integers(len(allowed)))]

    def moved(self, some: Sequence[Drawn], motions: Sequence[str], rng: torch.Generator | None) -> Batch:
        """Draws the clips: each thing along its motion's path."""
        n, device = len(some), self.device
        time = torch.linspace(0, 1, FRAMES, device=device)[None].expand(n, -1)
        draw = rng or torch.Generator(device).manual_seed(3)
        x, y, size, angle, there = paths(motions, time, draw, device)
        rows = torch.tensor([max(0, d.rows[0]) for d in some], device=device).repeat_interleave(FRAMES)
        layers = placed(self.stock.pictures, rows, x.flatten(), y.flatten(), size.flatten(), angle.flatten())
        layers = layers.view(n, FRAMES, 4, SIDE, SIDE) * there[..., None, None, None]
        for at, d in enumerate(some):
            if d.rows[0] < 0:
                layers[at] = self.animated[-1 - d.rows[0]].to(device)
        ground = background(n, rng, self.other) if rng is not None else torch.ones(n, 3, SIDE, SIDE, device=device)
        made = layers[:, :, :3] + ground[:, None] * (1 - layers[:, :, 3:])
        if rng is not None:
            made = spoiled(made.flatten(0, 1), rng, self.other, FRAMES).view_as(made)
        said = [Drawn(d.rows, d.places, _with(d.told, m), [_with(d.told, m)], d.name, f"{d.key} {m}",
                      d.facts | ({"motion": m} if m else {})) for d, m in zip(some, motions, strict=True)]  # fmt: skip
        return self.told(said, made * 2 - 1, rng)

    def tests(self) -> Iterator[Batch]:
        """Held-out motions of things, two hundred of them."""
        rng = np.random.default_rng(9)
        found: list[tuple[Drawn, str]] = []
        while len(found) < 200:
            item = self.stock.some(rng)
            held = [m for m in MOTIONS if held_motion(item.concept, m)]
            if held and item.weight == 1:
                found.append((self.stock.alone(item, None), held[int(rng.integers(len(held)))]))
        for at in range(0, len(found), 50):
            yield self.moved([d for d, _ in found[at : at + 50]], [m for _, m in found[at : at + 50]], None)


def _with(told: str, motion: str) -> str:
    return f"{told} {motion}" if motion else told


def paths(
    motions: Sequence[str], time: Tensor, rng: torch.Generator, device: str
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x, y, size, angle and opacity (n, frames) of each motion; sizes and speeds vary."""
    n = len(motions)
    reach, base = between(n, 0.4, 0.85, rng)[:, None], between(n, 0.5, 0.7, rng)[:, None]
    off = [between(n, -0.2, 0.2, rng)[:, None] for _ in range(2)]
    is_ = {m: torch.tensor([[float(found == m)] for found in motions], device=device) for m in MOTIONS}
    still = torch.tensor([[float(not m)] for m in motions], device=device)
    way = (2 * time - 1) * reach
    hop = 0.55 - 1.0 * (torch.sin(2 * math.pi * time)).abs() * (0.6 + 0.4 * reach)
    across, up = is_["moving right"] - is_["moving left"], is_["moving down"] - is_["moving up"]
    x = way * across + off[0] * (1 - across.abs()) * (1 - still)
    y = way * up + hop * is_["bouncing"] + off[1] * (1 - up.abs()) * (1 - is_["bouncing"]) * (1 - still)
    grow = 0.3 + 0.8 * time
    changing = is_["growing"] + is_["shrinking"]
    size = base * (1 - changing) + grow * is_["growing"] + (1.4 - grow) * is_["shrinking"]
    size = torch.where(still > 0, torch.ones_like(size), size)
    turn = torch.where(reach > 0.62, 1.0, -1.0)
    angle = 2 * math.pi * time * turn * (0.7 + 0.5 * reach) * is_["spinning"]
    there = 1 - time * is_["fading away"]
    return x, y, size, angle, there
