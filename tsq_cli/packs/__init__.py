"""Packs: models as folders of data. Importing this loads no torch; load_pack does."""

from tsq_cli.packs.load import Pack, load_encoder, load_pack
from tsq_cli.packs.recognizers import LoadedRecognizer, RecognizerChoice, choose_recognizer, load_recognizer
from tsq_cli.packs.registry import find_pack, list_packs
from tsq_cli.packs.schema import PackConfig
from tsq_cli.packs.verify import Check, pull_pack, verify_pack

__all__ = [
    "Check",
    "LoadedRecognizer",
    "Pack",
    "PackConfig",
    "RecognizerChoice",
    "choose_recognizer",
    "find_pack",
    "list_packs",
    "load_encoder",
    "load_pack",
    "load_recognizer",
    "pull_pack",
    "verify_pack",
]
