"""Queries with paraphrases, and which photographs show what they ask, for benchmarks.queries.

Written before anything was measured on the test queries. ImageNet classes are indices of ImageNet-1k; actions are those
of Stanford 40. `unclear` photographs may show the thing as well, and never stand beside it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Asked:
    """One thing that is asked for in four phrases.

    Attributes:
        phrases: the thing, its plural or another form, a phrase around it, a paraphrase.
        classes, actions: photographs that show it.
        unclear: classes and actions that may show it.
    """

    phrases: tuple[str, str, str, str]
    classes: tuple[int, ...] = ()
    actions: tuple[str, ...] = ()
    unclear: tuple[int | str, ...] = ()

    @property
    def shown_by(self) -> frozenset[int | str]:
        """Classes and actions whose photographs show it."""
        return frozenset((*self.classes, *self.actions))


TUNING: dict[str, Asked] = {
    "bird": Asked(
        ("a bird", "birds", "a photo of a bird", "a feathered animal with wings"),
        (16, 17, 18, 81, 84, 88, 97, 131, 137, 140, 142),
        (),
        (),
    ),
    "cat": Asked(("a cat", "cats", "a picture of a cat", "a pet kitten"), (282, 284, 285), (), (287, 288, 289, 290)),
    "snake": Asked(("a snake", "snakes", "there is a snake", "a dangerous reptile without legs"), (56, 61, 63), (), ()),
    "violin": Asked(
        ("someone playing the violin", "violins", "a violinist", "a person with a fiddle"),
        (),
        ("playing_violin",),
        (566, "playing_guitar"),
    ),
    "horse": Asked(
        ("a horse", "horses", "an image of a horse", "a person with a pony"),
        (),
        ("riding_a_horse", "feeding_a_horse"),
        (612,),
    ),
    "computer": Asked(
        ("a computer", "computers", "someone working at a computer", "a person typing on a laptop"),
        (508, 664),
        ("using_a_computer",),
        (851, "watching_TV"),
    ),
    "boat": Asked(
        ("a boat", "boats", "a photo of a boat", "a vessel on the water"),
        (576, 780, 814),
        ("rowing_a_boat",),
        (403, 540, 718, 460, "fishing"),
    ),
    "phone": Asked(
        ("someone talking on the phone", "telephones", "a person making a call", "a cell phone held to the ear"),
        (),
        ("phoning",),
        ("texting_message", "taking_photos"),
    ),
    "food": Asked(
        ("something to eat", "meals", "a picture of food", "a tasty dish"),
        (415, 928, 962, 964, 960, 944),
        ("cooking", "cutting_vegetables"),
        (550, 567, 909, 891, 922, 509, 996, "drinking", "pouring_liquid"),
    ),
    "microscope": Asked(
        ("a microscope", "microscopes", "a scientist in a laboratory", "someone looking through a microscope"),
        (),
        ("looking_through_a_microscope",),
        (633, 617, 447, 823, "looking_through_a_telescope"),
    ),
    "car": Asked(
        ("a motor vehicle", "cars and trucks", "a photo of a car", "a vehicle with four wheels"),
        (675, 874, 656, 468, 661, 586),
        ("fixing_a_car",),
        ("fixing_a_bike",),
    ),
    "fish": Asked(
        ("a fish", "fishes", "a colorful fish under water", "an image of a fish"),
        (389, 393, 396),
        (),
        (329, 328, "fishing"),
    ),
    "weapon": Asked(
        ("a weapon", "weapons", "someone with a gun or a bow", "a rifle"),
        (413, 764),
        ("shooting_an_arrow",),
        (583, 596, 652),
    ),
    "chain saw": Asked(
        ("someone cutting a tree", "chainsaws", "a man with a chain saw", "a lumberjack at work"),
        (),
        ("cutting_trees",),
        ("gardening",),
    ),
    "washing dishes": Asked(
        ("someone washing dishes", "dirty dishes in the sink", "a kitchen sink", "a person doing the dishes"),
        (),
        ("washing_dishes",),
        (567, 909, 469, "cooking", "cleaning_the_floor", "brushing_teeth", "cutting_vegetables", "pouring_liquid"),
    ),
    "clock": Asked(
        ("a clock", "clocks and watches", "an instrument that tells the time", "a picture of a watch"),
        (409, 531, 604),
        (),
        (685, 604),
    ),
}

TEST: dict[str, Asked] = {
    "dog": Asked(
        ("a dog", "dogs", "a photo of a dog", "a puppy"),
        (
            159,
            165,
            169,
            175,
            186,
            187,
            188,
            191,
            213,
            214,
            217,
            220,
            222,
            223,
            224,
            228,
            229,
            232,
            235,
            242,
            243,
            249,
            250,
            267,
            268,
        ),
        (),
        (271, "walking_the_dog"),
    ),
    "monkey": Asked(("a monkey", "monkeys", "a picture of a monkey", "a primate in a tree"), (370, 371, 377), (), ()),
    "insect": Asked(
        ("an insect", "beetles and butterflies", "a photo of a bug", "a small animal with six legs"),
        (304, 306, 321, 70),
        (),
        (79,),
    ),
    "guitar": Asked(
        ("someone playing the guitar", "guitars", "a guitarist", "a musician with a stringed instrument"),
        (),
        ("playing_guitar",),
        ("playing_violin",),
    ),
    "wind instrument": Asked(
        (
            "a wind instrument",
            "trumpets and flutes",
            "a musical instrument that is blown",
            "a picture of a flute or a horn",
        ),
        (558, 566, 684, 699, 875),
        (),
        (577, 641, 494, 579, "playing_guitar", "playing_violin"),
    ),
    "bicycle": Asked(
        ("a bicycle", "bicycles", "someone with a bike", "a photo of a cyclist"),
        (444,),
        ("riding_a_bike", "fixing_a_bike"),
        (612,),
    ),
    "television": Asked(
        ("a television", "televisions", "someone watching TV", "a screen in the living room"),
        (851,),
        ("watching_TV",),
        (664, "using_a_computer"),
    ),
    "umbrella": Asked(
        ("an umbrella", "umbrellas", "a person under an umbrella", "something that keeps the rain off"),
        (879,),
        ("holding_an_umbrella",),
        (),
    ),
    "building": Asked(
        ("a building", "buildings", "an image of architecture", "a large structure of stone or brick"),
        (668, 873, 500, 424, 415, 424, 788, 624),
        (),
        (580, 437, 509, 825, 460),
    ),
    "clothes": Asked(
        ("clothes", "garments", "a photo of clothing", "something to wear"),
        (400, 617, 652, 697, 735, 869, 887, 529),
        (),
        (439, 451, 449, 774, 715, 461, 490),
    ),
    "big cat": Asked(
        ("a big cat", "leopards", "a picture of a wild cat", "a spotted predator"),
        (287, 288, 289, 290),
        (),
        (282, 284, 285, 271, 295),
    ),
    "telescope": Asked(
        ("a telescope", "telescopes", "someone looking at the stars", "a person with an optical instrument"),
        (447,),
        ("looking_through_a_telescope",),
        (633, "looking_through_a_microscope", "taking_photos", "shooting_an_arrow"),
    ),
    "cleaning the floor": Asked(
        ("someone cleaning the floor", "mops and brooms", "a person vacuuming the room", "household cleaning"),
        (882, 731),
        ("cleaning_the_floor",),
        (412, "washing_dishes"),
    ),
    "fishing": Asked(
        ("someone fishing", "fishermen", "a man with a fishing rod", "a photo of an angler at the lake"),
        (),
        ("fishing",),
        (814, 576, 780, 718, "rowing_a_boat"),
    ),
    "kitchen utensil": Asked(
        ("a kitchen utensil", "pots and pans", "something to cook with", "a picture of cookware"),
        (567, 909, 469, 891, 550, 477),
        ("cooking",),
        (964, 962, 504, "cutting_vegetables", "washing_dishes", "pouring_liquid"),
    ),
    "flower": Asked(
        ("a flower", "flowers", "a photo of a blossom", "a blooming plant"),
        (985, 986),
        (),
        (944, 994, 996, 580, 960, "gardening"),
    ),
}
