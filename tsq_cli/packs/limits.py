"""Limits on the sizes of the parts of a pack (ours).

A pack is untrusted, and each of its numbers is memory or time: without limits, eight digits in pack.json ask for
terabytes, and forty names of a megabyte each stand in every table and page of a run. Every limit is far above what the
shipped packs need and what timm publishes. Those of input sizes and TSQ layers stand beside
their settings in tsq_cli.models.
"""

MAX_JSON_BYTES = 1_000_000  # of pack.json; the shipped ones have 4 kB
MAX_LIST_BYTES = 4_000_000  # of a list of names; that of ImageNet's 1000 has 12 kB
MAX_WEIGHTS_BYTES = 16 * 2**30  # of a file of tensors, which is hashed whole; a sparse file can claim any size

MAX_NAMES = 100_000  # of classes or objects, so also outputs of a classifier, and categories behind a curve
MAX_NAME = 200  # characters; ImageNet's longest name has 32
MAX_DESCRIPTION = 1000  # characters
MAX_FILE = 255  # characters of a file's name; file systems take as many bytes
MAX_MODEL = 200  # characters of a model's name; owner and name on the hub have at most 96 each

MAX_CANDIDATES = 4096  # T, and K: above a frame per second of an hour; a positional embedding has T rows
