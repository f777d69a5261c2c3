"""Examples of queries, written for this project: what models are shown before they write their own."""

from __future__ import annotations

from typing import NamedTuple


class Shot(NamedTuple):
    """A passage, and a query that was written for it."""

    passage: str
    query: str


CANAL = (
    "When the lock at Brennerhof closed for repairs in March, barges carrying gravel had to unload eleven "
    "kilometres upstream. Lorries took over the last stretch, and the harbour master counted four hundred extra "
    "journeys a week on the road through the village."
)
MOSS = (
    "Peat moss holds up to twenty times its dry weight in water because its leaves contain large dead cells with "
    "pores. The cells stay stiff when they are empty, so the moss does not shrink in a dry week and fills again "
    "with the next rain."
)
LOOM = (
    "Weavers on the coast dye wool with the bark of alder. Boiled for an hour the bark gives a pale brown; with "
    "an iron nail in the pot it turns almost black. The dye holds without alum, which the island had to import, "
    "and this is why the oldest blankets are dark."
)
SLEEP = (
    "In the second week without a fixed bedtime the volunteers fell asleep fifty minutes later on average, "
    "although they slept as long as before. Those who took a walk within an hour of waking moved their bedtime by "
    "less than a quarter of an hour."
)
BRIDGE = (
    "A footbridge sways when its own frequency is close to that of walking, about two steps a second. Engineers "
    "at Lindau hung a steel weight in oil beneath the deck; it swings against the motion, and people stopped "
    "noticing it."
)

PASSAGES = (CANAL, MOSS, LOOM, SLEEP, BRIDGE)


def shots(*queries: str) -> tuple[Shot, ...]:
    """The passages of this file, each with its query, in order."""
    return tuple(Shot(passage, query) for passage, query in zip(PASSAGES, queries, strict=True))


QUESTIONS = shots(
    "How did shipping gravel change while the Brennerhof lock was under repair?",
    "Why can sphagnum soak up so much rain?",
    "What makes old island blankets so dark?",
    "Does a morning walk keep people from going to bed later?",
    "How can engineers stop a footbridge from swaying under pedestrians?",
)
CLAIMS = shots(
    "Closing a single lock can push hundreds of lorry trips a week onto village roads.",
    "Dead hollow cells let sphagnum survive dry spells without shrinking.",
    "Alder bark needs no mordant to dye wool a lasting dark colour.",
    "Irregular bedtimes delay sleep but do not shorten it.",
    "A tuned mass in oil can calm a footbridge that sways with walkers.",
)
TITLES = shots(
    "Road Traffic During the Closure of an Inland Lock",
    "Water Storage in the Leaves of Sphagnum",
    "Alder Bark as a Wool Dye in Coastal Weaving",
    "Morning Light and the Drift of Bedtimes",
    "Damping Pedestrian Vibrations at the Lindau Footbridge",
)
KEYWORDS = shots(
    "lock closure, gravel transport, lorry traffic",
    "peat moss, water retention, hollow cells",
    "natural dyes, alder bark, wool, iron mordant",
    "sleep timing, bedtime delay, morning walk",
    "footbridge vibration, tuned mass damper, pedestrians",
)
